// Who are you? A token, sent once in the body of a request, and never in an address.

import { h, put, say } from "./dom.js";
import { openSession, post, session } from "./feed.js";
import { go } from "./paths.js";

export function login(root) {
  if (session.role) {
    go("/", true);
    return {};
  }
  document.title = "Log in · lastgood";
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
  const why = h("p.bad", { role: "alert" });
  const button = h("button.first", null, "Log in");
  const enter = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await post("/api/login", { token: token.value.trim() });
      await openSession();
      const path = location.pathname === "/login" ? "/" : location.pathname + location.search;
      go(path, true);
    } catch (error) {
      say(why, error.message);
      token.select();
    }
    button.disabled = false;
  };
  put(root, h("div.login.sheet", null,
    h("h1", null, "Log in"),
    h("p.quiet.pad", null, `This is lastgood on ${session.host || "this machine"}. A token comes from whoever runs it.`),
    h("form", { onsubmit: enter }, h("label", { for: "token" }, "Token"), token, why, button)));
  token.focus();
  return {};
}
