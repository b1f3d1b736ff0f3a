// Where does each thing have its address?

export const runPath = (run, rest = "") => `/runs/${encodeURIComponent(run)}${rest}`;
export const incidentPath = (run, id) => runPath(run, `/incidents/${encodeURIComponent(id)}`);
export const logPath = (run, source) => runPath(run, `/logs?source=${encodeURIComponent(source)}`);

/** Goes to an address of this server. */
export function go(path, replace = false) {
  dispatchEvent(new CustomEvent("lastgood:go", { detail: { path, replace } }));
}
