"""What does the number of an NVSwitch error (SXid) mean, and is it fatal where the line does not say so?

The driver prints Fatal, Non-fatal or Correctable with most of them, and that word decides. The table is for the lines
without it, such as those of the switch's own processor (SOE). Grades as in NVIDIA's fabric manager guide.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SXid:
    """One number."""

    code: int
    grade: str
    """always, may or no: whether it is fatal"""
    meaning: str


# codes | fatal | meaning
_TABLE = """
10001|no|Host_priv_error
10002|no|Host_priv_timeout
10003|no|Host_unhandled_interrupt
10004|no|Host_thermal_event_start
10005|no|Host_thermal_event_end
10006|always|Host thermal shutdown
10007|may|Host I/O failure
10008|always|Host firmware did not start
11001|may|Ingress invalid command
11004|no|Ingress invalid ACL
11009|may|Ingress invalid VCSet
11012 11021 11022 11023 12021 12023 15008 15011 19049 19055|no|Single bit ECC errors
19057 19059 19062 19065 19068 19071 24001 24002 24003|no|Single bit ECC errors
11013|may|Ingress header DBE
11018|may|Ingress RID DBE
11019|may|Ingress RLAN DBE
11020|may|Ingress control parity
12001|may|Egress crossbar overflow
12002|may|Egress packet route
12020|always|Egress sequence ID error
12022|may|Egress input ECC DBE error
12024|may|Egress output ECC DBE error
12025|may|Egress credit overflow
12026|may|Egress destination request ID error
12027|may|Egress destination response ID error
12028|no|Egress nonposted PRIV error
12030|may|Egress control parity error
12031|may|Egress credit parity error
12032|may|Egress flit type mismatch
14017|may|TS ATO timeout
15001|may|Route buffer over/underflow
15006|may|Route transdone over/underflow
15009|may|Route GLT DBE
15010|may|Route parity
15012|may|Route incoming DBE
15013|may|Route credit parity
19047|may|NCISOC HDR ECC DBE Error
19048|may|NCISOC DAT ECC DBE Error
19054|may|HDR RAM ECC DBE Error
19056|may|DAT0 RAM ECC DBE Error
19058|may|DAT1 RAM ECC DBE Error
19060|may|CREQ RAM HDR ECC DBE Error
19061|may|CREQ RAM DAT ECC DBE Error
19063|may|Response RAM HDR ECC DBE Error
19064|may|Response RAM DAT ECC DBE Error
19066|may|COM RAM HDR ECC DBE Error
19067|may|COM RAM DAT ECC DBE Error
19069|may|RSP1 RAM HDR ECC DBE Error
19070|may|RSP1 RAM DAT ECC DBE Error
19084|no|AN1 Heartbeat Timeout Error
20001|no|TX Replay Error
20009|no|RX Short Error Rate
20012|no|Broken/inconsistent connection
20034|may|LTSSM Fault Up
22003|always|Minion Halt
22011|always|Minion exterror
22012|no|Minion Link NA interrupt
22013|no|Minion Link DLREQ interrupt
23001 23010|always|Ingress SRC-VC buffer overflow
23002 23011|always|Ingress SRC-VC buffer underflow
23003 23012|always|Egress DST-VC credit overflow
23004 23013|always|Egress DST-VC credit underflow
23005 23014|always|Ingress packet burst error
23006 23015|always|Ingress packet sticky error
23007 23016|always|Possible bubbles at ingress
23008|always|Ingress packet invalid dst error
23009|always|Ingress packet parity error
23017|always|Ingress credit parity error
24004|may|Sourcetrack TCEN0 crubmstore DBE
24005|may|Sourcetrack TCEN0 TD crubmstore DBE
24006|may|Sourcetrack TCEN1 crubmstore DBE
24007|may|Sourcetrack timeout error
26001|always|SOE reset failed
26002|always|SOE bootstrap failed
26003|always|SOE command queue
26004|always|SOE timeout
26006|always|SOE halted
26007|always|SOE external error
26008|always|SOE watchdog error
28003|may|Module overheated
"""


def _rows(line: str) -> list[SXid]:
    codes, grade, meaning = line.split("|")
    return [SXid(code=int(code), grade=grade, meaning=meaning) for code in codes.split()]


SXIDS: dict[int, SXid] = {sxid.code: sxid for line in _TABLE.strip().splitlines() for sxid in _rows(line)}

COOLED = frozenset({10005, 28002, 28004})
"""the end of an overheating: it clears, and raises nothing"""
