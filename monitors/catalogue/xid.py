"""What does a Xid number mean, what does its vendor advise, and what do we make of it?

NVIDIA's Xid catalogue (docs.nvidia.com, deploy/xid-errors); from 173 on, the names in open driver 595. Class and
action are ours. k8s-device-plugin, Azure, AWS and NVIDIA disagree about 13, 45, 63, 68, 69, 94 and 109, so a site may
say otherwise (`Catalogue.with_overrides`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One number."""

    code: int
    name: str
    """mnemonic of the driver, without its usual ROBUST_CHANNEL_"""
    meaning: str
    immediate: str = ""
    """what NVIDIA advises at once; empty: nothing published"""
    investigatory: str = ""
    """what NVIDIA advises when it returns"""
    fault: str = "gpu_unknown_xid"
    action: str = ""
    """empty: that of the class"""


# code | name | meaning | NVIDIA at once | NVIDIA when it returns | class | action, where it is not the class's
_USED = """
8|FIFO_ERROR_IDLE_TIMEOUT|GPU stopped processing|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
11|GR_ERROR_MISSING_HW|Invalid or corrupted push buffer stream|RESTART_APP|CHECK_APP/CUDA|app_gpu_error|
13|GR_EXCEPTION|Graphics Engine Exception|RESTART_APP|WORKFLOW_XID_13|app_gpu_error|
14|FAKE_ERROR|Unused|IGNORE|CONTACT_SUPPORT|gpu_unknown_xid|
25|GR_ILLEGAL_NOTIFY|Invalid or illegal push buffer stream|RESTART_APP|CHECK_APP/CUDA|app_gpu_error|
31|FIFO_ERROR_MMU_ERR_FLT|GPU memory page fault|RESTART_APP|WORKFLOW_XID_31|app_gpu_error|
32|PBDMA_ERROR|Invalid or corrupted push buffer stream|RESTART_APP|CHECK_APP/CUDA|app_gpu_error|
37|FECS_ERR_UNIMP_FIRMWARE_METHOD|Driver firmware error|IGNORE|CHECK_APP/CUDA|gpu_driver_error|
38|FECS_ERR_WATCHDOG_TIMEOUT|Driver firmware error|IGNORE|CONTACT_SUPPORT|gpu_driver_error|
39|CE0_ERROR|Copy Engine Exception|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
40|CE1_ERROR|Copy Engine Exception|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
41|CE2_ERROR|Copy Engine Exception|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
43|RESETCHANNEL_VERIF_ERROR|GPU stopped processing|IGNORE|CONTACT_SUPPORT|app_gpu_error|
44|GR_FAULT_DURING_CTXSW|Graphics Engine fault during context switch|IGNORE|CONTACT_SUPPORT|app_gpu_error|
45|PREEMPTIVE_REMOVAL|Preemptive cleanup, due to previous errors|WORKFLOW_XID_45|SOLO_RESTART_FM|gpu_sympathetic|
46|GPU_TIMEOUT_ERROR|GPU stopped processing|RESET_GPU|CONTACT_SUPPORT|gpu_stopped|
48|GPU_ECC_DBE|Double Bit ECC Error|WORKFLOW_XID_48|WORKFLOW_XID_48|gpu_ecc_uncorrectable|
54|SILENT_RUNNING_PWR_REDUCED_CLOCKING|Auxiliary power is not connected|CHECK_MECHANICALS|CONTACT_SUPPORT|gpu_power|
59|PMU_ERROR|Unused|CONTACT_SUPPORT||gpu_pmu_halt|observe
60|SEC2_ERROR|Video processor exception|RESTART_APP|INVESTIGATE_SW|app_gpu_error|
61|PMU_BREAKPOINT|Unused|CONTACT_SUPPORT||gpu_pmu_halt|observe
62|PMU_HALT_ERROR|Internal micro-controller halt|RESET_GPU|CONTACT_SUPPORT|gpu_pmu_halt|
63|INFOROM_DRAM_RETIREMENT_EVENT|GPU memory remapping event|IGNORE|IGNORE|gpu_row_remap|
64|INFOROM_DRAM_RETIREMENT_FAILURE|GPU memory remapping failure|RESET_GPU|CONTACT_SUPPORT|gpu_row_remap_failure|
66|FECS_ERR_REG_ACCESS_VIOLATION|Illegal access by driver|IGNORE|INVESTIGATE_SW|gpu_driver_error|observe
67|FECS_ERR_VERIF_VIOLATION|Illegal access by driver|IGNORE|CONTACT_SUPPORT|gpu_driver_error|observe
68|NVDEC0_ERROR|NVDEC0 Exception|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
69|GR_CLASS_ERROR|Graphics Engine class error|RESTART_APP|CHECK_APP/CUDA|app_gpu_error|
70|CE3_ERROR|CE3: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
71|CE4_ERROR|CE4: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
72|CE5_ERROR|CE5: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
74|NVLINK_ERROR|NVLINK Error|WORKFLOW_NVLINK_ERR|CONTACT_SUPPORT|nvlink_error|
75|CE6_ERROR|CE6: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
76|CE7_ERROR|CE7: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
77|CE8_ERROR|CE8: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
78|VGPU_START_ERROR|vGPU Start Error|UPDATE_SWFW|UPDATE_SWFW|gpu_driver_error|observe
79|GPU_HAS_FALLEN_OFF_THE_BUS|GPU has fallen off the bus|RESTART_BM|CONTACT_SUPPORT|gpu_lost|
80|PBDMA_PUSHBUFFER_CRC_MISMATCH|Corrupted data sent to GPU|RESTART_APP|CHECK_APP/CUDA|app_gpu_error|
82|NVJPG0_ERROR|NVJPG0 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
83|NVDEC1_ERROR|NVDEC1 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
84|NVDEC2_ERROR|NVDEC2 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
85|CE9_ERROR|CE9: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
86|OFA0_ERROR|OFA Exception|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
88|NVDEC3_ERROR|NVDEC3 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
89|NVDEC4_ERROR|NVDEC4 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
92|EXCESSIVE_SBE_INTERRUPTS|High single-bit ECC error rate|IGNORE|CONTACT_SUPPORT|gpu_ecc_corrected|
93|INFOROM_ERASE_LIMIT_EXCEEDED|InfoROM wear limit exceeded|IGNORE|CONTACT_SUPPORT|gpu_unknown_xid|
94|CONTAINED_ERROR|Contained memory error|RESTART_APP|IGNORE|gpu_ecc_contained|
95|UNCONTAINED_ERROR|Uncontained memory error|RESET_GPU|IGNORE|gpu_ecc_uncontained|
96|NVDEC5_ERROR|NVDEC5 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
97|NVDEC6_ERROR|NVDEC6 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
98|NVDEC7_ERROR|NVDEC7 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
99|NVJPG1_ERROR|NVJPG1 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
100|NVJPG2_ERROR|NVJPG2 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
101|NVJPG3_ERROR|NVJPG3 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
102|NVJPG4_ERROR|NVJPG4 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
103|NVJPG5_ERROR|NVJPG5 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
104|NVJPG6_ERROR|NVJPG6 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
105|NVJPG7_ERROR|NVJPG7 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
106|SMBPBI_TEST_MESSAGE|SMBPBI Test Message|IGNORE|IGNORE|gpu_unknown_xid|
107|SMBPBI_TEST_MESSAGE_SILENT|SMBPBI Test Message Silent|IGNORE|IGNORE|gpu_unknown_xid|
108|NVLINK_REMOTE_TRANSLATION_ERROR|Unused|IGNORE|XID_137_FLOW|nvlink_app_error|
109|CTXSW_TIMEOUT_ERROR|Context Switch Timeout Error|RESET_GPU|CONTACT_SUPPORT|gpu_ctxsw_timeout|
110|SEC_FAULT_ERROR|Security Fault Error|RESET_GPU|INVESTIGATE_SW|gpu_reset_required|
119|GSP_RPC_TIMEOUT|GSP RPC Timeout|RESET_GPU|INVESTIGATE_SW|gpu_gsp_timeout|
120|GSP_ERROR|GSP Error|RESET_GPU|INVESTIGATE_SW|gpu_gsp_timeout|
121|C2C_ERROR|C2C Error|IGNORE|CONTACT_SUPPORT|nvlink_nonfatal|
126|CE10_ERROR|CE10: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
127|CE11_ERROR|CE11: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
128|CE12_ERROR|CE12: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
129|CE13_ERROR|CE13: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
130|CE14_ERROR|CE14: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
131|CE15_ERROR|CE15: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
132|CE16_ERROR|CE16: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
133|CE17_ERROR|CE17: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
134|CE18_ERROR|CE18: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
135|CE19_ERROR|CE19: Unknown Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
136|ALI_TRAINING_FAIL|Link Training Failed|RESET_GPU|INVESTIGATE_LINK_SI|nvlink_error|
137|NVLINK_PRIV_ERR|NVLink Privilege Error|IGNORE|XID_137_FLOW|nvlink_app_error|
139|OFA1_ERROR|OFA1 Error|RESTART_APP|CONTACT_SUPPORT|app_gpu_error|
140|UNRECOVERABLE_ECC_ERROR_ESCAPE|ECC Unrecovered Error|RESET_GPU|CONTACT_SUPPORT|gpu_ecc_uncorrectable|
141|FAST_PATH_ERROR|CUDA Fast Path Error|IGNORE|CONTACT_SUPPORT|app_gpu_error|observe
142|NVENC3_ERROR|NVENC3 Error|CONTACT_SUPPORT||app_gpu_error|
143|GPU_INIT_ERROR|GPU Initialization Error|RESET_GPU|CONTACT_SUPPORT|gpu_init_error|reset_gpu
144|NVLINK_SAW_ERROR|NVLINK: SAW Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
145|NVLINK_RLW_ERROR|NVLINK: RLW Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
146|NVLINK_TLW_ERROR|NVLINK: TLW Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
147|NVLINK_TREX_ERROR|NVLINK: TREX Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
148|NVLINK_NVLPW_CTRL_ERROR|NVLINK: NVLPW_CTRL Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
149|NVLINK_NETIR_ERROR|NVLINK: NETIR Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
150|NVLINK_MSE_ERROR|NVLINK: MSE Error|WORKFLOW_NVLINK5_ERR|WORKFLOW_NVLINK5_ERR|nvlink_error|
151|KEY_ROTATION_ERROR|Key rotation Error|RESTART_VM|CONTACT_SUPPORT|gpu_driver_error|reboot_node
152|DLA_SMMU_ERROR|DLA SMMU Error|IGNORE|CONTACT_SUPPORT|gpu_unknown_xid|
153|DLA_TIMEOUT|DLA timeout Error|IGNORE|CONTACT_SUPPORT|gpu_unknown_xid|
154|GPU_RECOVERY_ACTION_CHANGED|GPU Recovery Action Changed|XID_154|INFORMATION|gpu_recovery_action|
155|NVLINK_SW_DEFINED_ERROR|NVLINK: SW Defined Error|RESET_GPU|INVESTIGATE_SW_USER|nvlink_error|
156|RESOURCE_RETIREMENT_EVENT|Resource Retirement Event|RESET_GPU|IGNORE|gpu_row_remap|
157|RESOURCE_RETIREMENT_FAILURE|Resource Retirement Failure|IGNORE|CONTACT_SUPPORT|gpu_row_remap_failure|observe
158|GPU_FATAL_TIMEOUT|GPU Fatal Timeout|RESET_GPU|CONTACT_SUPPORT|gpu_stopped|
159|CHI_NON_DATA_ERROR|CHI Non-Data Error|CHECK_UVM|SYMPATHETIC_REPORT_SOLO|gpu_driver_error|observe
160|CHANNEL_RETIREMENT_EVENT|Channel Retirement Event|IGNORE|INVESTIGATE_SW|gpu_row_remap|observe
161|CHANNEL_RETIREMENT_FAILURE|Channel Retirement Failure|IGNORE|INVESTIGATE_SW|gpu_row_remap_failure|observe
162|PSHC_REENGAGED|Power smoothing reengaged|||gpu_power|none
163|PSHC_DISENGAGED|Power smoothing disengaged|||gpu_power|
164|PSHC_LOW_LIFETIME|Power smoothing low lifetime reached|||gpu_power|
165|PSHC_ZERO_LIFETIME|Power smoothing: lifetime exhausted|||gpu_power|
166|NVLINK_SECURE_CRYPTO_ERR|Traffic before the link was set up for encryption|||gpu_unknown_xid|
167|PCIE_FATAL_TIMEOUT|PCIE_FATAL_TIMEOUT|||pcie_uncorrectable|
168|REDUCED_GPU_MEMORY_CAPACITY|Errors found in WPR (write protected region)|||gpu_row_remap_failure|observe
169|SEC2_HALT_ERROR|Internal micro-controller halt|||gpu_pmu_halt|
170|NVLINK_SECURE_OTHER|Interrupt seen in CC mode|||gpu_unknown_xid|
171|UNCORRECTABLE_DRAM_ERROR|Detail of 48: DRAM|||gpu_ecc_uncorrectable|
172|UNCORRECTABLE_SRAM_ERROR|Detail of 48: SRAM|||gpu_ecc_uncorrectable|
173|C2C_FATAL_LINK_FAILURE|Chip-to-chip link failed|||gpu_unknown_xid|
174|RESETCHANNEL_KILL_PROCESS_SILENT|Channel reset, process ended|||gpu_unknown_xid|
175|MEMORY_SUBSYSTEM_ERROR|Memory subsystem error|||gpu_unknown_xid|
176|PCIE_CORRECTABLE_ERROR_FAULT|PCIe correctable errors|||gpu_unknown_xid|
"""

# Numbers that NVIDIA's catalogue calls unused today; all CONTACT_SUPPORT. Older drivers printed some of them.
_UNUSED = """
1:FIFO_ERROR_FIFO_METHOD 2:FIFO_ERROR_SW_METHOD 3:FIFO_ERROR_UNK_METHOD 4:FIFO_ERROR_CHANNEL_BUSY
5:FIFO_ERROR_RUNOUT_OVERFLOW 6:FIFO_ERROR_PARSE_ERR 7:FIFO_ERROR_PTE_ERR 9:GR_ERROR_INSTANCE 10:GR_ERROR_SINGLE_STEP
12:GR_ERROR_SW_METHOD 15:SCANLINE_TIMEOUT 16:VBLANK_CALLBACK_TIMEOUT 17:PARAMETER_ERROR 18:BUS_MASTER_TIMEOUT_ERROR
19:DISP_MISSED_NOTIFIER 20:MPEG_ERROR_SW_METHOD 21:ME_ERROR_SW_METHOD 22:VP_ERROR_SW_METHOD 23:RC_LOGGING_ENABLED
24:GR_SEMAPHORE_TIMEOUT 26:FIFO_ERROR_FBISTATE_TIMEOUT 27:VP_ERROR 28:VP2_ERROR 29:BSP_ERROR 30:BAD_ADDR_ACCESS
33:SEC_ERROR 34:MSVLD_ERROR 35:MSPDEC_ERROR 36:MSPPP_ERROR 42:VIC_ERROR 47:NVENC0_ERROR
49:SILENT_RUNNING_CONSTANT_LEVEL_SET_BY_REGISTRY 50:SILENT_RUNNING_LEVEL_TRANSITION_DUE_TO_RC_ERROR
51:SILENT_RUNNING_STRESS_TEST_FAILURE 52:SILENT_RUNNING_LEVEL_TRANS_DUE_TO_TEMP_RISE
53:SILENT_RUNNING_TEMP_REDUCED_CLOCKING 55:SILENT_RUNNING_TEMPERATURE_READ_ERROR 56:DISPLAY_CHANNEL_EXCEPTION
57:FB_LINK_TRAINING_FAILURE_ERROR 58:FB_MEMORY_ERROR 65:NVENC1_ERROR 73:NVENC2_ERROR 81:VGA_SUBSYSTEM_ERROR
87:NVTELEMETRY_DRIVER_REPORT 90:LTC_ERROR 91:RESERVED_XID 111:BUNDLE_ERROR_EVENT 112:DISP_SUPERVISOR_ERROR
113:DP_LT_FAILURE 114:HEAD_RG_UNDERFLOW 115:CORE_CHANNEL_REGS 116:WINDOW_CHANNEL_REGS 117:CURSOR_CHANNEL_REGS
118:HEAD_REGS 122:SPI_PMU_RPC_READ_FAIL 123:SPI_PMU_RPC_WRITE_FAIL 124:SPI_PMU_RPC_ERASE_FAIL 125:INFOROM_FS_ERROR
138:DLA_ERROR
"""


def _used(line: str) -> Xid:
    code, name, meaning, immediate, investigatory, fault, action = line.split("|")
    return Xid(
        code=int(code),
        name=name,
        meaning=meaning,
        immediate=immediate,
        investigatory=investigatory,
        fault=fault,
        action=action,
    )


def _unused(word: str) -> Xid:
    code, _, name = word.partition(":")
    return Xid(code=int(code), name=name, meaning="Unused", immediate="CONTACT_SUPPORT")


XIDS: dict[int, Xid] = {
    xid.code: xid for xid in (*map(_used, _USED.strip().splitlines()), *map(_unused, _UNUSED.split()))
}

DETAILS = frozenset({171, 172})
"""they say which memory a 48 was about, and nothing more"""
SYMPATHETIC = frozenset({43, 45, 94})
"""printed for each program when something else went wrong on the GPU; after another event they are its cascade"""
NVLINK5 = range(144, 151)
"""the driver prints itself whether one of these is fatal"""

HARMLESS_NVLINK5: dict[str, int] = {
    "SAW_MVB": 0x24,
    "RLW_REMAP": 0x300,
    "RLW_RSPCOL": 0x1,
    "RLW_SRC_TRACK": 0x2,
    "RLW_TAGSTATE": 0x10001,
    "TLW_CTRL": 0x1,
    "TLW_RX": 0x1,
    "TLW_RX_PIPE0": 0x1,
    "TLW_RX_PIPE1": 0x1,
    "TLW_TX": 0x1,
    "TLW_TX_PIPE0": 0x1,
    "TLW_TX_PIPE1": 0x1,
    "NETIR_MFDE_EVENT": 0x3,
}
"""unit -> bits of its error status that NVIDIA's decode table says to ignore, now and when they return"""
