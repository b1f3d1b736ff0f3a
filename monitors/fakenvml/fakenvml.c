/* What does NVIDIA's management library answer on a machine without GPUs? Whatever the file `state` beside it says.
 *
 * A stand-in for libnvidia-ml.so.1: the same names and structures, GPUs with the values of an idle H100. Two files in
 * the folder that this library was loaded from inject state and faults while programs run (controller: control.py):
 *
 *   state    lines `OWNER.KEY=VALUE`; OWNER is gpuN, all, or sys; read anew when the file was replaced
 *            KEY=VALUE             a value (DEFAULTS below, or fieldN for any field of nvmlDeviceGetFieldValues);
 *                                  `none`: not supported
 *            error[.CALL]=CODE     that GPU answers every call, or one call, with this error; CALL may be a key too
 *            hang[.CALL]=1         the call does not return until the line is gone
 *            spin[.CALL]=1         the same, and it uses a whole CPU
 *            crash[.CALL]=SIGNAL   the call ends the process
 *            delay_ms[.CALL]=N     the call takes longer
 *            sys.count, sys.init_error, sys.init_hang, sys.wait_error, sys.wait_hang
 *   limits   lines `GPU MILLIWATTS`: the power limits that programs set, which last, and hold the power down
 *   events   lines `GPU TYPE DATA`, appended; an event set delivers those that came after it registered the GPU
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define GPUS 64
#define ENTRIES 4096
#define ALL (-1)
#define SYS (-2)

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       TIMEOUT = 10, LIBRARY_NOT_FOUND = 12, VERSION_MISMATCH = 25, UNKNOWN = 999 };
enum { TYPE_DOUBLE, TYPE_UINT, TYPE_ULONG, TYPE_ULONGLONG, TYPE_LONGLONG, TYPE_INT, TYPE_USHORT };

typedef struct { int index; } Gpu;
typedef struct { int owner; char key[72]; char text[96]; } Entry;
typedef struct { int inotify; long offset; unsigned long long wanted[GPUS]; } EventSet;
typedef struct { uint32_t id, scope; int64_t at_us, latency_us; uint32_t type, code; union { double d; uint32_t u;
                 uint64_t ull; int64_t sll; int32_t i; uint16_t us; } value; } FieldValue;
typedef struct { Gpu *gpu; unsigned long long type, data; unsigned gpu_instance, compute_instance; } EventData;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned version; unsigned char cluster[16]; unsigned status, clique, state, mask;
                 unsigned char summary; } Fabric;

static const struct { const char *key; double value; } DEFAULTS[] = {
    {"power_mw", 75000}, {"power_limit_mw", 700000}, {"power_default_limit_mw", 700000},
    {"power_requested_limit_mw", 700000}, {"power_limit_min_mw", 200000}, {"power_limit_max_mw", 700000}, {"utilisation", 0}, {"memory_utilisation", 0},
    {"clock_mhz", 1980}, {"clock_max_mhz", 1980}, {"memory_clock_mhz", 2619}, {"memory_clock_max_mhz", 2619},
    {"temperature", 31}, {"memory_temperature", 38}, {"memory_mib", 81559}, {"memory_used_mib", 4},
    {"memory_reserved_mib", 500}, {"reasons", 1}, {"throttle_power_cap_ns", 0}, {"throttle_thermal_ns", 0},
    {"throttle_sync_boost_ns", 0}, {"throttle_sw_thermal_ns", 0}, {"throttle_hw_thermal_ns", 0},
    {"throttle_power_brake_ns", 0}, {"ecc_corrected", 0}, {"ecc_uncorrected", 0}, {"remap_corrected", 0},
    {"remap_uncorrected", 0}, {"remap_pending", 0}, {"remap_failed", 0}, {"nvlinks", 18}, {"nvlink_replays", 0},
    {"nvlink_recoveries", 0}, {"nvlink_crc", 0}, {"pcie_width", 16}, {"pcie_width_max", 16}, {"pcie_generation", 5},
    {"pcie_generation_max", 5}, {"pcie_replays", 0}, {"recovery_action", 0}, {"fabric_state", 3},
    {"fabric_status", 0}, {"fabric_mask", 0x51AA}, {"fabric_summary", 1},
    {"event_types", 0xFE0B}, {"persistence", 1},
};

/* Fields with the key they show, and how the driver types them. */
static const struct { unsigned id; const char *key; unsigned type; } FIELDS[] = {
    {3, "ecc_corrected", TYPE_ULONGLONG}, {4, "ecc_uncorrected", TYPE_ULONGLONG},
    {29, "pages_retired_sbe", TYPE_UINT}, {30, "pages_retired_dbe", TYPE_UINT},
    {31, "pages_pending", TYPE_UINT},
    {38, "nvlink_crc_flit_total", TYPE_ULONGLONG}, {45, "nvlink_crc_data_total", TYPE_ULONGLONG},
    {52, "nvlink_replay_total", TYPE_ULONGLONG}, {59, "nvlink_recovery_total", TYPE_ULONGLONG},
    {74, "throttle_power_cap_ns", TYPE_ULONGLONG}, {75, "throttle_thermal_ns", TYPE_ULONGLONG},
    {76, "throttle_sync_boost_ns", TYPE_ULONGLONG}, {82, "memory_temperature", TYPE_UINT},
    {83, "energy_mj", TYPE_ULONGLONG}, {91, "nvlinks", TYPE_UINT}, {94, "pcie_replays", TYPE_UINT},
    {142, "remap_corrected", TYPE_UINT}, {143, "remap_uncorrected", TYPE_UINT},
    {144, "remap_pending", TYPE_UINT}, {145, "remap_failed", TYPE_UINT},
    {161, "nvlink_replays", TYPE_ULONGLONG}, {162, "nvlink_recoveries", TYPE_ULONGLONG},
    {163, "nvlink_crc", TYPE_ULONGLONG}, {165, "nvlink_state", TYPE_UINT},
    {185, "power_mean_mw", TYPE_UINT}, {186, "power_mw", TYPE_UINT},
    {189, "power_default_limit_mw", TYPE_UINT}, {190, "power_limit_mw", TYPE_UINT},
    {192, "power_requested_limit_mw", TYPE_UINT},
    {208, "nvlink_receive_errors", TYPE_ULONGLONG}, {211, "nvlink_integrity_errors", TYPE_ULONGLONG},
    {214, "nvlink_recoveries_failed", TYPE_ULONGLONG}, {219, "nvlink_effective_errors", TYPE_ULONGLONG},
    {230, "recovery_action", TYPE_UINT},
    {269, "throttle_sw_thermal_ns", TYPE_ULONGLONG}, {270, "throttle_hw_thermal_ns", TYPE_ULONGLONG},
    {271, "throttle_power_brake_ns", TYPE_ULONGLONG},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Entry entries[ENTRIES];
static int entries_count;
static volatile int entries_of[GPUS + 2]; /* by owner, from SYS on: most GPUs have none, and answer quickly */
static struct stat seen;
static Gpu gpus[GPUS];
static double energy_mj[GPUS], energy_at[GPUS];
static int initialized;

static char folder[3800], state_path[3900], events_path[3900], limits_path[3900];

__attribute__((constructor)) static void locate(void) {
    Dl_info info;
    dladdr((void *)locate, &info);
    snprintf(folder, sizeof folder, "%s", info.dli_fname);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0; else strcpy(folder, ".");
    snprintf(state_path, sizeof state_path, "%s/state", folder);
    snprintf(events_path, sizeof events_path, "%s/events", folder);
    snprintf(limits_path, sizeof limits_path, "%s/limits", folder);
}

static void parse(char *line) {
    Entry *entry = &entries[entries_count];
    char *equals = strchr(line, '='), *dot = strchr(line, '.');
    if (!equals || !dot || dot > equals || entries_count == ENTRIES) return;
    *equals = *dot = 0;
    entry->owner = !strcmp(line, "sys") ? SYS : !strcmp(line, "all") ? ALL : atoi(line + 3);
    snprintf(entry->key, sizeof entry->key, "%s", dot + 1);
    snprintf(entry->text, sizeof entry->text, "%s", equals + 1);
    entry->text[strcspn(entry->text, "\n")] = 0;
    entries_count++;
    if (entry->owner < GPUS) entries_of[entry->owner - SYS]++;
}

static int has_entries(int owner) { return entries_of[owner - SYS] || (owner >= 0 && entries_of[ALL - SYS]); }

static void refresh(void) {
    struct stat now;
    if (stat(state_path, &now)) return;
    pthread_mutex_lock(&lock);
    if (now.st_ino != seen.st_ino || memcmp(&now.st_mtim, &seen.st_mtim, sizeof seen.st_mtim)) {
        FILE *file = fopen(state_path, "re");
        char line[256];
        seen = now;
        entries_count = 0;
        memset((void *)entries_of, 0, sizeof entries_of);
        while (file && fgets(line, sizeof line, file)) parse(line);
        if (file) fclose(file);
    }
    pthread_mutex_unlock(&lock);
}

static int find(int owner, const char *key, char text[96]) {
    int found = 0;
    if (!has_entries(owner)) return 0;
    pthread_mutex_lock(&lock);
    for (int at = 0; at < entries_count && found < 2; at++) {
        int own = entries[at].owner == owner;
        if ((own || (owner >= 0 && entries[at].owner == ALL && !found)) && !strcmp(entries[at].key, key)) {
            memcpy(text, entries[at].text, 96);
            found = own ? 2 : 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static double number(int owner, const char *key, double missing) {
    char text[96];
    return find(owner, key, text) ? strtod(text, NULL) : missing;
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* What is asked of one call: either for every call (`hang`) or for this one (`hang.nvmlDeviceGetName`). */
static double fault(int owner, const char *fault, const char *call) {
    char key[72];
    if (!has_entries(owner)) return 0;
    double every = number(owner, fault, 0);
    if (every) return every;
    snprintf(key, sizeof key, "%s.%s", fault, call);
    return number(owner, key, 0);
}

/* The way into every call about a GPU; anything but SUCCESS is its answer. */
static int enter(Gpu *gpu, const char *call) {
    if (!initialized) return UNINITIALIZED;
    if (!gpu || gpu < gpus || gpu >= gpus + GPUS) return INVALID_ARGUMENT;
    refresh();
    while (fault(gpu->index, "hang", call)) {
        usleep(20000);
        refresh();
    }
    while (fault(gpu->index, "spin", call)) refresh();
    double crash = fault(gpu->index, "crash", call);
    if (crash) {
        signal((int)crash, SIG_DFL);
        raise((int)crash);
    }
    double delay_ms = fault(gpu->index, "delay_ms", call);
    if (delay_ms) usleep((useconds_t)(delay_ms * 1000));
    return (int)fault(gpu->index, "error", call);
}

/* The power limit that some program set, 0 when none did: the last line about the GPU counts. */
static double limit_set(int index) {
    FILE *file = fopen(limits_path, "re");
    int gpu;
    double mw, found = 0;
    while (file && fscanf(file, "%d %lf", &gpu, &mw) == 2) if (gpu == index) found = mw;
    if (file) fclose(file);
    return found;
}

static double held_down(int index, double power_mw) {
    double limit = limit_set(index);
    return limit && limit < power_mw ? limit : power_mw;
}

static double energy(int index) {
    double now = now_s(), power_mw = held_down(index, number(index, "power_mw", 75000));
    pthread_mutex_lock(&lock);
    if (!energy_at[index]) energy_mj[index] = now * 75000; /* as if idle since the machine started */
    else energy_mj[index] += (now - energy_at[index]) * power_mw;
    energy_at[index] = now;
    double result = energy_mj[index];
    pthread_mutex_unlock(&lock);
    return result;
}

/* The value of a key: what the state says, else what an H100 would. */
static int value_of(int index, const char *key, double *value) {
    char text[96], error_key[72];
    if (has_entries(index)) {
        snprintf(error_key, sizeof error_key, "error.%s", key);
        int error = (int)number(index, error_key, 0);
        if (error) return error;
    }
    if (find(index, key, text)) {
        if (!strcmp(text, "none")) return NOT_SUPPORTED;
        *value = strtod(text, NULL);
        if (!strcmp(key, "power_mw") || !strcmp(key, "power_mean_mw")) *value = held_down(index, *value);
        return SUCCESS;
    }
    if ((!strcmp(key, "power_limit_mw") || !strcmp(key, "power_requested_limit_mw")) && limit_set(index)) {
        *value = limit_set(index);
        return SUCCESS;
    }
    if (!strcmp(key, "energy_mj")) {
        *value = energy(index);
        return SUCCESS;
    }
    if (!strcmp(key, "power_mean_mw")) return value_of(index, "power_mw", value);
    for (size_t at = 0; at < sizeof DEFAULTS / sizeof *DEFAULTS; at++)
        if (!strcmp(DEFAULTS[at].key, key)) {
            *value = DEFAULTS[at].value;
            return SUCCESS;
        }
    return NOT_SUPPORTED;
}

static int ask(Gpu *gpu, const char *call, const char *key, double *value) {
    int error = enter(gpu, call);
    return error ? error : value_of(gpu->index, key, value);
}

static int ask_uint(Gpu *gpu, const char *call, const char *key, unsigned *out) {
    double value = 0;
    int error = ask(gpu, call, key, &value);
    if (!error) *out = (unsigned)value;
    return error;
}

static int ask_ull(Gpu *gpu, const char *call, const char *key, unsigned long long *out) {
    double value = 0;
    int error = ask(gpu, call, key, &value);
    if (!error) *out = (unsigned long long)value;
    return error;
}

static int say(Gpu *gpu, const char *call, const char *key, const char *missing, char *out, unsigned size) {
    char text[96];
    int error = enter(gpu, call);
    if (error) return error;
    if (!find(gpu->index, key, text)) snprintf(text, sizeof text, "%s", missing);
    if (!strcmp(text, "none")) return NOT_SUPPORTED;
    if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

/* ---------------------------------------------------------------------------------------------- the library */

API int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    refresh();
    while (number(SYS, "init_hang", 0)) {
        usleep(20000);
        refresh();
    }
    int error = (int)number(SYS, "init_error", 0);
    if (error) return error;
    for (int at = 0; at < GPUS; at++) gpus[at].index = at;
    initialized++;
    return SUCCESS;
}

API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

API int nvmlShutdown(void) {
    if (!initialized) return UNINITIALIZED;
    initialized--;
    return SUCCESS;
}

API const char *nvmlErrorString(int code) {
    switch (code) {
        case 0: return "Success";
        case 1: return "Uninitialized";
        case 3: return "Not Supported";
        case 4: return "Insufficient Permissions";
        case 9: return "Driver Not Loaded";
        case 10: return "Timeout";
        case 15: return "GPU is lost";
        case 16: return "GPU requires reset";
        case 18: return "Driver/library version mismatch";
        default: return "Unknown Error";
    }
}

API int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    snprintf(out, size, "580.95.05");
    return SUCCESS;
}

API int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    snprintf(out, size, "13.580.95.05");
    return SUCCESS;
}

API int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    *out = 13000;
    return SUCCESS;
}

API int nvmlDeviceGetCount_v2(unsigned *out) {
    if (!initialized) return UNINITIALIZED;
    refresh();
    *out = (unsigned)number(SYS, "count", 8);
    return SUCCESS;
}

/* ---------------------------------------------------------------------------------------------- identity */

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **out) {
    unsigned count = 0;
    int error = nvmlDeviceGetCount_v2(&count);
    if (error) return error;
    if (index >= count || index >= GPUS) return INVALID_ARGUMENT;
    error = enter(&gpus[index], "nvmlDeviceGetHandleByIndex_v2");
    if (!error) *out = &gpus[index];
    return error;
}

API int nvmlDeviceGetIndex(Gpu *gpu, unsigned *out) {
    int error = enter(gpu, "nvmlDeviceGetIndex");
    if (!error) *out = (unsigned)gpu->index;
    return error;
}

API int nvmlDeviceGetName(Gpu *gpu, char *out, unsigned size) {
    return say(gpu, "nvmlDeviceGetName", "name", "NVIDIA H100 80GB HBM3", out, size);
}

API int nvmlDeviceGetUUID(Gpu *gpu, char *out, unsigned size) {
    char missing[48];
    snprintf(missing, sizeof missing, "GPU-fa4e0000-0000-4000-8000-%012d", gpu ? gpu->index : 0);
    return say(gpu, "nvmlDeviceGetUUID", "uuid", missing, out, size);
}

API int nvmlDeviceGetSerial(Gpu *gpu, char *out, unsigned size) {
    char missing[48];
    snprintf(missing, sizeof missing, "16500230000%02d", gpu ? gpu->index : 0);
    return say(gpu, "nvmlDeviceGetSerial", "serial", missing, out, size);
}

API int nvmlDeviceGetPciInfo_v3(Gpu *gpu, Pci *out) {
    char missing[32];
    snprintf(missing, sizeof missing, "00000000:%02X:00.0", gpu ? 0x1b + 0x10 * gpu->index : 0);
    int error = say(gpu, "nvmlDeviceGetPciInfo_v3", "pci", missing, out->bus_id, sizeof out->bus_id);
    if (error) return error;
    sscanf(out->bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->legacy, sizeof out->legacy, "%04X:%02X:%02X.0", out->domain & 0xFFFF, out->bus & 0xFF, out->device & 0xFF);
    out->id = 0x233010DE;
    out->subsystem = 0x16C110DE;
    return SUCCESS;
}

/* ---------------------------------------------------------------------------------------------- getters */

#define UINT_GETTER(call, key) \
    API int call(Gpu *gpu, unsigned *out) { return ask_uint(gpu, #call, key, out); }
#define ULL_GETTER(call, key) \
    API int call(Gpu *gpu, unsigned long long *out) { return ask_ull(gpu, #call, key, out); }

UINT_GETTER(nvmlDeviceGetPowerUsage, "power_mw")
UINT_GETTER(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")

API int nvmlDeviceGetPowerManagementLimitConstraints(Gpu *gpu, unsigned *least, unsigned *most) {
    int error = ask_uint(gpu, __func__, "power_limit_min_mw", least);
    return error ? error : ask_uint(gpu, __func__, "power_limit_max_mw", most);
}

API int nvmlDeviceSetPowerManagementLimit(Gpu *gpu, unsigned limit_mw) {
    unsigned least, most;
    int error = enter(gpu, __func__);
    if (!error) error = nvmlDeviceGetPowerManagementLimitConstraints(gpu, &least, &most);
    if (error) return error;
    if (limit_mw < least || limit_mw > most) return INVALID_ARGUMENT;
    FILE *file = fopen(limits_path, "ae");
    if (!file) return UNKNOWN;
    fprintf(file, "%d %u\n", gpu->index, limit_mw);
    fclose(file);
    return SUCCESS;
}
UINT_GETTER(nvmlDeviceGetPowerManagementLimit, "power_requested_limit_mw")
UINT_GETTER(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_limit_mw")
UINT_GETTER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
UINT_GETTER(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
UINT_GETTER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
UINT_GETTER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max")
UINT_GETTER(nvmlDeviceGetPcieReplayCounter, "pcie_replays")
UINT_GETTER(nvmlDeviceGetPersistenceMode, "persistence")
ULL_GETTER(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")
ULL_GETTER(nvmlDeviceGetCurrentClocksEventReasons, "reasons")
ULL_GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, "reasons")
ULL_GETTER(nvmlDeviceGetSupportedEventTypes, "event_types")

API int nvmlDeviceGetUtilizationRates(Gpu *gpu, unsigned out[2]) {
    int error = ask_uint(gpu, "nvmlDeviceGetUtilizationRates", "utilisation", &out[0]);
    double memory = 0;
    if (!error && !value_of(gpu->index, "memory_utilisation", &memory)) out[1] = (unsigned)memory;
    return error;
}

API int nvmlDeviceGetClockInfo(Gpu *gpu, int type, unsigned *out) {
    return ask_uint(gpu, "nvmlDeviceGetClockInfo", type == 2 ? "memory_clock_mhz" : "clock_mhz", out);
}

API int nvmlDeviceGetMaxClockInfo(Gpu *gpu, int type, unsigned *out) {
    return ask_uint(gpu, "nvmlDeviceGetMaxClockInfo", type == 2 ? "memory_clock_max_mhz" : "clock_max_mhz", out);
}

API int nvmlDeviceGetTemperature(Gpu *gpu, int sensor, unsigned *out) {
    (void)sensor;
    return ask_uint(gpu, "nvmlDeviceGetTemperature", "temperature", out);
}

API int nvmlDeviceGetTemperatureV(Gpu *gpu, unsigned asked[3]) {
    if (asked[0] != 0x100000C) return VERSION_MISMATCH;
    return ask_uint(gpu, "nvmlDeviceGetTemperatureV", "temperature", &asked[2]);
}

API int nvmlDeviceGetTotalEccErrors(Gpu *gpu, int uncorrected, int aggregate, unsigned long long *out) {
    (void)aggregate;
    return ask_ull(gpu, "nvmlDeviceGetTotalEccErrors", uncorrected ? "ecc_uncorrected" : "ecc_corrected", out);
}

static int memory(Gpu *gpu, const char *call, double *total, double *used, double *reserved) {
    int error = ask(gpu, call, "memory_mib", total);
    if (!error) error = value_of(gpu->index, "memory_used_mib", used);
    if (!error) error = value_of(gpu->index, "memory_reserved_mib", reserved);
    *total *= 1048576, *used *= 1048576, *reserved *= 1048576;
    return error;
}

API int nvmlDeviceGetMemoryInfo(Gpu *gpu, unsigned long long out[3]) {
    double total = 0, used = 0, reserved = 0;
    int error = memory(gpu, "nvmlDeviceGetMemoryInfo", &total, &used, &reserved);
    if (error) return error;
    out[0] = total, out[1] = total - used - reserved, out[2] = used + reserved;
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo_v2(Gpu *gpu, unsigned long long out[5]) {
    double total = 0, used = 0, reserved = 0;
    if ((unsigned)out[0] != 0x2000028) return VERSION_MISMATCH;
    int error = memory(gpu, "nvmlDeviceGetMemoryInfo_v2", &total, &used, &reserved);
    if (error) return error;
    out[1] = total, out[2] = reserved, out[3] = total - used - reserved, out[4] = used;
    return SUCCESS;
}

static int link_state(int index, unsigned link, double *value) {
    char key[32];
    double links = 0;
    int error = value_of(index, "nvlinks", &links);
    if (error) return error;
    if (link >= links) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "nvlink%u", link);
    if (value_of(index, key, value)) *value = 1;
    return SUCCESS;
}

API int nvmlDeviceGetNvLinkState(Gpu *gpu, unsigned link, unsigned *out) {
    double value = 0;
    int error = enter(gpu, "nvmlDeviceGetNvLinkState");
    if (!error) error = link_state(gpu->index, link, &value);
    if (!error) *out = (unsigned)value;
    return error;
}

API int nvmlDeviceGetGpuFabricInfoV(Gpu *gpu, Fabric *out) {
    double value = 0;
    if (out->version != 0x3000028 && out->version != 0x2000024) return VERSION_MISMATCH;
    int error = ask(gpu, "nvmlDeviceGetGpuFabricInfoV", "fabric_state", &value);
    if (error) return error;
    out->state = (unsigned)value;
    if (!value_of(gpu->index, "fabric_status", &value)) out->status = (unsigned)value;
    if (!value_of(gpu->index, "fabric_mask", &value)) out->mask = (unsigned)value;
    if (out->version == 0x3000028 && !value_of(gpu->index, "fabric_summary", &value)) out->summary = (unsigned char)value;
    return SUCCESS;
}

/* ---------------------------------------------------------------------------------------------- fields */

static void store(FieldValue *field, unsigned type, double value) {
    field->type = type;
    switch (type) {
        case TYPE_DOUBLE: field->value.d = value; break;
        case TYPE_UINT: field->value.u = (uint32_t)value; break;
        case TYPE_LONGLONG: field->value.sll = (int64_t)value; break;
        case TYPE_INT: field->value.i = (int32_t)value; break;
        case TYPE_USHORT: field->value.us = (uint16_t)value; break;
        default: field->value.ull = (uint64_t)value;
    }
}

static int field_value(int index, FieldValue *field) {
    char key[32], text[96];
    double value = 0;
    unsigned type = TYPE_ULONGLONG;
    const char *shown = NULL;
    int error = NOT_SUPPORTED;
    for (size_t at = 0; at < sizeof FIELDS / sizeof *FIELDS; at++)
        if (FIELDS[at].id == field->id) shown = FIELDS[at].key, type = FIELDS[at].type;
    snprintf(key, sizeof key, "field%u", field->id);
    if (find(index, key, text)) error = value_of(index, key, &value);
    else if (field->id == 165) error = link_state(index, field->scope, &value);
    else if (shown) error = value_of(index, shown, &value);
    if (!error) store(field, type, value);
    return error;
}

API int nvmlDeviceGetFieldValues(Gpu *gpu, int count, FieldValue *fields) {
    int error = enter(gpu, "nvmlDeviceGetFieldValues");
    if (error) return error;
    for (int at = 0; at < count; at++) {
        memset(&fields[at].value, 0, sizeof fields[at].value);
        fields[at].code = (uint32_t)field_value(gpu->index, &fields[at]);
    }
    return SUCCESS;
}

/* ---------------------------------------------------------------------------------------------- events */

API int nvmlEventSetCreate(EventSet **out) {
    struct stat now;
    if (!initialized) return UNINITIALIZED;
    EventSet *set = calloc(1, sizeof *set);
    set->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(set->inotify, folder, IN_CLOSE_WRITE | IN_MOVED_TO);
    set->offset = stat(events_path, &now) ? 0 : now.st_size;
    *out = set;
    return SUCCESS;
}

API int nvmlEventSetFree(EventSet *set) {
    close(set->inotify);
    free(set);
    return SUCCESS;
}

API int nvmlDeviceRegisterEvents(Gpu *gpu, unsigned long long types, EventSet *set) {
    double supported = 0;
    int error = ask(gpu, "nvmlDeviceRegisterEvents", "event_types", &supported);
    if (error) return error;
    if (types & ~(unsigned long long)supported) return NOT_SUPPORTED;
    set->wanted[gpu->index] |= types;
    return SUCCESS;
}

/* The next event that somebody wants: 1 and `out` filled, else 0. */
static int next_event(EventSet *set, EventData *out) {
    FILE *file = fopen(events_path, "re");
    char line[128];
    int found = 0;
    if (!file) return 0;
    fseek(file, set->offset, SEEK_SET);
    while (!found && fgets(line, sizeof line, file) && strchr(line, '\n')) {
        int index = 0;
        unsigned long long type = 0, data = 0;
        set->offset += (long)strlen(line);
        if (sscanf(line, "%d %llx %llu", &index, &type, &data) < 2 || index < 0 || index >= GPUS) continue;
        found = (set->wanted[index] & type) != 0;
        *out = (EventData){&gpus[index], type, data, 0xFFFFFFFF, 0xFFFFFFFF};
    }
    fclose(file);
    return found;
}

API int nvmlEventSetWait_v2(EventSet *set, EventData *out, unsigned timeout_ms) {
    double deadline = now_s() + timeout_ms / 1e3;
    char drained[4096];
    for (;;) {
        refresh();
        int error = (int)number(SYS, "wait_error", 0);
        if (error) return error;
        if (number(SYS, "wait_hang", 0)) {
            usleep(20000);
            continue;
        }
        if (next_event(set, out)) return SUCCESS;
        double left_s = deadline - now_s();
        if (left_s <= 0) return TIMEOUT;
        struct pollfd wait = {set->inotify, POLLIN, 0};
        poll(&wait, 1, (int)(left_s * 1e3) + 1);
        while (read(set->inotify, drained, sizeof drained) > 0) {}
    }
}
