/*
 * A libnvidia-ml.so.1 without GPUs. Its machine lies in the file that SKEWSCOPE_FAKE_NVML names, which a test maps too
 * and changes while the library is in use. Counters grow with time, so that it behaves as a machine does.
 *
 * A call that is not here is one that the driver does not have: the wrapper reports "function not found".
 * The structures below are mirrored in __init__.py; stub_machine_bytes() guards against a slip.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MOST_GPUS = 16, MOST_LINKS = 18, MOST_EVENTS = 64, MOST_PROCESSES = 16, FIELDS = 320, GPM_METRICS = 128 };
enum { LINK_FIELDS = 18, MOST_SAMPLES = 100, SAMPLE_US = 100000 };
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, TIMEOUT = 10, LIBRARY_NOT_FOUND = 12, GPU_IS_LOST = 15, RESET_REQUIRED = 16, VERSION = 25
};
enum group { /* bits of `unsupported` and `denied`, in the order of GROUPS in __init__.py */
    IDENTITY, UTILIZATION, SAMPLES, CLOCKS, REASONS, MEMORY, TEMPERATURE, MARGIN, FIELD_VALUES, POWER, ECC, PCIE,
    NVLINK, GPM, EVENTS, REPAIR, BAR1, MODES, FABRIC, PROCESSES
};

typedef struct {
    uint32_t state, megabytes_per_s;
    uint64_t counts[LINK_FIELDS]; /* in the order of link_fields */
} stub_link;

typedef struct {
    uint32_t pid, mps;
    uint64_t used_bytes;
} stub_process;

typedef struct {
    char uuid[48], bus_id[32], model[64];
    uint32_t minor, module, numa_node, lost, reset_required, hang, crash, slow_us;
    uint64_t unsupported, denied;
    uint32_t utilization_percent, memory_percent, sm_mhz, memory_mhz, max_sm_mhz, max_memory_mhz, performance_state;
    uint32_t celsius, thresholds[4], pcie_generation, pcie_width, pcie_max_generation, pcie_max_width;
    int32_t margin_celsius;
    uint32_t remapped[4], banks[5], sram_exceeded, ecc_mode, mig_mode, persistence, fabric_state, fabric_mask, links;
    uint32_t processes;
    uint64_t reasons, memory_used, memory_total, bar1_used, event_types, cpus;
    uint64_t pcie_bytes_per_s, nvlink_kib_per_s;
    uint64_t ecc[2][2][2]; /* severity, lifetime, DRAM or SRAM */
    uint64_t fields[FIELDS];
    uint8_t codes[FIELDS]; /* what a field returns */
    uint8_t types[FIELDS]; /* the type of its value */
    double gpm[GPM_METRICS]; /* NaN: not supported */
    stub_link link[MOST_LINKS];
    stub_process process[MOST_PROCESSES];
    uint64_t advanced_ns;
} stub_gpu;

typedef struct {
    uint32_t gpu, type;
    uint64_t data;
} stub_event;

typedef struct {
    uint32_t count, order[MOST_GPUS], init_code, reloads, pushed, taken, starts;
    char driver[32];
    uint64_t clock_ns; /* what time it is; 0: the real one */
    stub_event events[MOST_EVENTS];
    stub_gpu gpu[MOST_GPUS];
} stub_machine;

static const uint32_t link_fields[LINK_FIELDS] = {161, 162, 163, 202, 204, 206, 207, 208, 209,
                                                  210, 211, 212, 213, 214, 219, 220, 221, 222};
static const struct { uint64_t bit; int field; } counted[] = {
    {0x4, 74}, {0x10, 76}, {0x20, 269}, {0x40, 270}, {0x80, 271}, {0x200, 77}, {0x400, 79}};

static stub_machine *machine;
static uint32_t seen_reloads;
static int running;
static uint64_t registered[MOST_GPUS];

size_t stub_machine_bytes(void) { return sizeof(stub_machine); }

static uint64_t now_ns(void)
{
    struct timespec now;
    if (machine->clock_ns)
        return machine->clock_ns;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Let the counters of a GPU grow by the time since the last call. */
static void advance(stub_gpu *gpu)
{
    uint64_t now = now_ns(), step = gpu->advanced_ns && now > gpu->advanced_ns ? now - gpu->advanced_ns : 0;
    double seconds = (double)step / 1e9;
    gpu->advanced_ns = now;
    gpu->fields[83] += (uint64_t)((double)gpu->fields[186] * seconds);
    for (int field = 197; field <= 198; field++)
        gpu->fields[field] += (uint64_t)((double)gpu->pcie_bytes_per_s * seconds);
    for (int field = 138; field <= 139; field++)
        gpu->fields[field] += (uint64_t)((double)gpu->nvlink_kib_per_s * seconds);
    for (size_t at = 0; at < sizeof counted / sizeof *counted; at++)
        if (gpu->reasons & counted[at].bit)
            gpu->fields[counted[at].field] += step;
}

/* Enter a call about a GPU: misbehave as it was told to. */
static int enter(stub_gpu *gpu, enum group group)
{
    if (!running || !machine || seen_reloads != machine->reloads)
        return UNINITIALIZED;
    if (gpu->crash)
        raise(SIGSEGV);
    while (gpu->hang)
        usleep(5000);
    if (gpu->slow_us)
        usleep(gpu->slow_us);
    if (gpu->lost)
        return GPU_IS_LOST;
    if (gpu->reset_required)
        return RESET_REQUIRED;
    if (gpu->unsupported >> group & 1)
        return NOT_SUPPORTED;
    if (gpu->denied >> group & 1)
        return NO_PERMISSION;
    advance(gpu);
    return SUCCESS;
}

#define ENTER(group)                      \
    do {                                  \
        int entered = enter(gpu, group);  \
        if (entered != SUCCESS)           \
            return entered;               \
    } while (0)

/* ---- start and inventory ---- */

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    if (!machine) {
        const char *path = getenv("SKEWSCOPE_FAKE_NVML");
        int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *mapped = file < 0 ? MAP_FAILED
                                : mmap(NULL, sizeof(stub_machine), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (file >= 0)
            close(file);
        if (mapped == MAP_FAILED)
            return LIBRARY_NOT_FOUND;
        machine = mapped;
    }
    if (machine->init_code)
        return (int)machine->init_code;
    running = 1;
    seen_reloads = machine->reloads;
    machine->starts++;
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    if (!running)
        return UNINITIALIZED;
    running = 0;
    memset(registered, 0, sizeof registered);
    return SUCCESS;
}

/* Let go of the machine, so that the next start maps another file. For tests within one process. */
void stub_forget(void)
{
    if (machine)
        munmap(machine, sizeof(stub_machine));
    machine = NULL;
    running = 0;
}

const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "Error of the stub"; }

static int text(char *into, unsigned bytes, const char *from)
{
    if (strlen(from) >= bytes)
        return INSUFFICIENT_SIZE;
    strcpy(into, from);
    return SUCCESS;
}

static int started(void) { return running && seen_reloads == machine->reloads; }

int nvmlSystemGetDriverVersion(char *into, unsigned bytes)
{
    return started() ? text(into, bytes, machine->driver) : UNINITIALIZED;
}

int nvmlSystemGetNVMLVersion(char *into, unsigned bytes)
{
    char version[48];
    if (!started())
        return UNINITIALIZED;
    snprintf(version, sizeof version, "13.%s", machine->driver);
    return text(into, bytes, version);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    *version = 13000;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    if (!started())
        return UNINITIALIZED;
    *count = machine->count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, stub_gpu **handle)
{
    if (!started())
        return UNINITIALIZED;
    if (index >= machine->count)
        return INVALID_ARGUMENT;
    *handle = &machine->gpu[machine->order[index]];
    return enter(*handle, IDENTITY);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, stub_gpu **handle)
{
    if (!started())
        return UNINITIALIZED;
    for (unsigned index = 0; index < machine->count; index++) {
        *handle = &machine->gpu[machine->order[index]];
        if (!strcasecmp((*handle)->bus_id, bus_id))
            return enter(*handle, IDENTITY);
    }
    return NOT_FOUND;
}

/* ---- who a GPU is ---- */

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char bus_id[32];
} pci_info;

int nvmlDeviceGetUUID(stub_gpu *gpu, char *into, unsigned bytes)
{
    ENTER(IDENTITY);
    return text(into, bytes, gpu->uuid);
}

int nvmlDeviceGetName(stub_gpu *gpu, char *into, unsigned bytes)
{
    ENTER(IDENTITY);
    return text(into, bytes, gpu->model);
}

int nvmlDeviceGetVbiosVersion(stub_gpu *gpu, char *into, unsigned bytes)
{
    ENTER(IDENTITY);
    return text(into, bytes, "96.00.74.00.01");
}

int nvmlDeviceGetPciInfo_v3(stub_gpu *gpu, pci_info *info)
{
    ENTER(IDENTITY);
    memset(info, 0, sizeof *info);
    memcpy(info->bus_id, gpu->bus_id, sizeof info->bus_id);
    return SUCCESS;
}

int nvmlDeviceGetCpuAffinity(stub_gpu *gpu, unsigned words, unsigned long *set)
{
    ENTER(IDENTITY);
    memset(set, 0, words * sizeof *set);
    set[0] = gpu->cpus;
    return SUCCESS;
}

/* Calls that return one number. */
#define NUMBER(name, group, type, value)     \
    int name(stub_gpu *gpu, type *into)      \
    {                                        \
        ENTER(group);                        \
        *into = (type)(value);               \
        return SUCCESS;                      \
    }

NUMBER(nvmlDeviceGetMinorNumber, IDENTITY, unsigned, gpu->minor)
NUMBER(nvmlDeviceGetModuleId, IDENTITY, unsigned, gpu->module)
NUMBER(nvmlDeviceGetNumaNodeId, IDENTITY, int, gpu->numa_node)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, REASONS, unsigned long long, gpu->reasons)
NUMBER(nvmlDeviceGetPerformanceState, CLOCKS, unsigned, gpu->performance_state)
NUMBER(nvmlDeviceGetPowerUsage, POWER, unsigned, gpu->fields[186])
NUMBER(nvmlDeviceGetEnforcedPowerLimit, POWER, unsigned, gpu->fields[190])
NUMBER(nvmlDeviceGetTotalEnergyConsumption, POWER, unsigned long long, gpu->fields[83])
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, PCIE, unsigned, gpu->pcie_generation)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, PCIE, unsigned, gpu->pcie_width)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, PCIE, unsigned, gpu->pcie_max_generation)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, PCIE, unsigned, gpu->pcie_max_width)
NUMBER(nvmlDeviceGetPcieReplayCounter, PCIE, unsigned, gpu->fields[94])
NUMBER(nvmlDeviceGetPersistenceMode, MODES, unsigned, gpu->persistence)
NUMBER(nvmlDeviceGetSupportedEventTypes, EVENTS, unsigned long long, gpu->event_types)

/* ---- what a GPU does ---- */

typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory_info;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_info_v2;
typedef struct { unsigned version, sensor; int celsius; } temperature;
typedef struct { unsigned version; int celsius; } margin;
typedef struct { unsigned long long time_us; union { unsigned ui; unsigned long long ull; } value; } sample;

int nvmlDeviceGetUtilizationRates(stub_gpu *gpu, utilization *rates)
{
    ENTER(UTILIZATION);
    rates->gpu = gpu->utilization_percent;
    rates->memory = gpu->memory_percent;
    return SUCCESS;
}

/* The driver keeps one sample each 100 ms, the last hundred of them. */
int nvmlDeviceGetSamples(stub_gpu *gpu, unsigned kind, unsigned long long since_us, unsigned *type, unsigned *count,
                         sample *into)
{
    unsigned room = *count, many = 0;
    ENTER(SAMPLES);
    if (kind != 1)
        return NOT_SUPPORTED;
    uint64_t last_us = now_ns() / 1000 / SAMPLE_US * SAMPLE_US, first_us = last_us - (uint64_t)MOST_SAMPLES * SAMPLE_US;
    *type = 1;
    for (uint64_t at_us = since_us > first_us ? since_us + SAMPLE_US : first_us; at_us <= last_us && many < room;
         at_us += SAMPLE_US, many++)
        if (into)
            into[many] = (sample){at_us, {.ui = gpu->utilization_percent}};
    *count = many;
    return many ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetClockInfo(stub_gpu *gpu, unsigned domain, unsigned *mhz)
{
    ENTER(CLOCKS);
    *mhz = domain == 2 ? gpu->memory_mhz : gpu->sm_mhz;
    return SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(stub_gpu *gpu, unsigned domain, unsigned *mhz)
{
    ENTER(CLOCKS);
    *mhz = domain == 2 ? gpu->max_memory_mhz : gpu->max_sm_mhz;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(stub_gpu *gpu, memory_info *info)
{
    ENTER(MEMORY);
    *info = (memory_info){gpu->memory_total, gpu->memory_total - gpu->memory_used, gpu->memory_used};
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(stub_gpu *gpu, memory_info_v2 *info)
{
    ENTER(MEMORY);
    if (info->version != (sizeof *info | 2u << 24))
        return VERSION;
    info->total = gpu->memory_total;
    info->used = gpu->memory_used;
    return SUCCESS;
}

int nvmlDeviceGetBAR1MemoryInfo(stub_gpu *gpu, memory_info *info)
{
    ENTER(BAR1);
    *info = (memory_info){1ull << 37, (1ull << 37) - gpu->bar1_used, gpu->bar1_used};
    return SUCCESS;
}

int nvmlDeviceGetTemperatureV(stub_gpu *gpu, temperature *into)
{
    ENTER(TEMPERATURE);
    into->celsius = (int)gpu->celsius;
    return SUCCESS;
}

int nvmlDeviceGetMarginTemperature(stub_gpu *gpu, margin *into)
{
    ENTER(MARGIN);
    into->celsius = gpu->margin_celsius;
    return SUCCESS;
}

int nvmlDeviceGetTemperatureThreshold(stub_gpu *gpu, unsigned which, unsigned *celsius)
{
    ENTER(TEMPERATURE);
    if (which > 3)
        return INVALID_ARGUMENT;
    *celsius = gpu->thresholds[which];
    return SUCCESS;
}

static int modes(stub_gpu *gpu, unsigned value, unsigned *now, unsigned *next)
{
    ENTER(MODES);
    *now = *next = value;
    return SUCCESS;
}

int nvmlDeviceGetEccMode(stub_gpu *gpu, unsigned *now, unsigned *next) { return modes(gpu, gpu->ecc_mode, now, next); }
int nvmlDeviceGetMigMode(stub_gpu *gpu, unsigned *now, unsigned *next) { return modes(gpu, gpu->mig_mode, now, next); }

/* ---- field values ---- */

typedef struct {
    unsigned field, scope;
    long long timestamp, latency_us;
    unsigned type, code;
    unsigned long long value;
} field_value;

static int of_links(stub_gpu *gpu, field_value *one)
{
    int at = 0;
    while (at < LINK_FIELDS && link_fields[at] != one->field)
        at++;
    if (one->field != 164 && one->field != 165 && at == LINK_FIELDS)
        return 0;
    one->value = 0;
    one->code = one->scope < gpu->links || (one->scope == UINT32_MAX && at < LINK_FIELDS) ? gpu->codes[one->field]
                                                                                            : INVALID_ARGUMENT;
    for (unsigned link = 0; link < gpu->links; link++)
        if (one->scope == link || one->scope == UINT32_MAX)
            one->value += one->field == 164   ? gpu->link[link].megabytes_per_s
                          : one->field == 165 ? gpu->link[link].state
                                              : gpu->link[link].counts[at];
    return 1;
}

int nvmlDeviceGetFieldValues(stub_gpu *gpu, int count, field_value *values)
{
    ENTER(FIELD_VALUES);
    for (field_value *one = values; one < values + count; one++) {
        one->timestamp = (long long)(now_ns() / 1000);
        one->latency_us = 1;
        if (one->field >= FIELDS) {
            one->code = INVALID_ARGUMENT;
            continue;
        }
        one->type = gpu->types[one->field];
        if (of_links(gpu, one))
            continue;
        one->code = one->field == 186 && one->scope ? NOT_SUPPORTED : gpu->codes[one->field];
        one->value = one->field == 91 ? gpu->links : gpu->fields[one->field];
        if (one->type == 1) /* the upper half is whatever was there */
            one->value = (one->value & UINT32_MAX) | 0xDEADull << 48;
    }
    return SUCCESS;
}

/* ---- errors, repairs, links, fabric ---- */

int nvmlDeviceGetMemoryErrorCounter(stub_gpu *gpu, unsigned severity, unsigned lifetime, unsigned location,
                                    unsigned long long *count)
{
    ENTER(ECC);
    if (severity > 1 || lifetime > 1 || (location != 2 && location != 7))
        return NOT_SUPPORTED;
    *count = gpu->ecc[severity][lifetime][location == 7];
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(stub_gpu *gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failure)
{
    ENTER(REPAIR);
    *corrected = gpu->remapped[0];
    *uncorrected = gpu->remapped[1];
    *pending = gpu->remapped[2];
    *failure = gpu->remapped[3];
    return SUCCESS;
}

int nvmlDeviceGetRowRemapperHistogram(stub_gpu *gpu, unsigned *banks)
{
    ENTER(REPAIR);
    memcpy(banks, gpu->banks, sizeof gpu->banks);
    return SUCCESS;
}

typedef struct { unsigned version; unsigned long long counts[11]; unsigned exceeded; } sram_status;

int nvmlDeviceGetSramEccErrorStatus(stub_gpu *gpu, sram_status *status)
{
    ENTER(ECC);
    if (status->version != (sizeof *status | 1u << 24))
        return VERSION;
    status->exceeded = gpu->sram_exceeded;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkState(stub_gpu *gpu, unsigned link, unsigned *active)
{
    ENTER(NVLINK);
    if (link >= gpu->links)
        return INVALID_ARGUMENT;
    *active = gpu->link[link].state == 1;
    return SUCCESS;
}

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status, clique, state, mask;
} fabric_info;

int nvmlDeviceGetGpuFabricInfoV(stub_gpu *gpu, fabric_info *info)
{
    ENTER(FABRIC);
    if (info->version != (sizeof *info | 2u << 24))
        return VERSION;
    info->state = gpu->fabric_state;
    info->mask = gpu->fabric_mask;
    return SUCCESS;
}

/* ---- processes ---- */

typedef struct { unsigned pid; unsigned long long used_bytes; unsigned instance, compute_instance; } process_info;

static int processes(stub_gpu *gpu, unsigned mps, unsigned *count, process_info *into)
{
    unsigned many = 0;
    ENTER(PROCESSES);
    for (unsigned at = 0; at < gpu->processes; at++)
        many += gpu->process[at].mps == mps;
    if (many > *count || !into) {
        *count = many;
        return many ? INSUFFICIENT_SIZE : SUCCESS;
    }
    *count = 0;
    for (unsigned at = 0; at < gpu->processes; at++)
        if (gpu->process[at].mps == mps)
            into[(*count)++] = (process_info){gpu->process[at].pid, gpu->process[at].used_bytes, 0, 0};
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(stub_gpu *gpu, unsigned *count, process_info *into)
{
    return processes(gpu, 0, count, into);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(stub_gpu *gpu, unsigned *count, process_info *into)
{
    return processes(gpu, 1, count, into);
}

/* ---- events ---- */

typedef struct {
    stub_gpu *gpu;
    unsigned long long type, data;
    unsigned instance, compute_instance;
} event_data;

int nvmlEventSetCreate(void **set)
{
    *set = registered;
    return started() ? SUCCESS : UNINITIALIZED;
}

int nvmlEventSetFree(void *set)
{
    memset(set, 0, sizeof registered);
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(stub_gpu *gpu, unsigned long long types, void *set)
{
    ENTER(EVENTS);
    ((uint64_t *)set)[gpu - machine->gpu] = types;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, event_data *into, unsigned timeout_ms)
{
    if (!started())
        return UNINITIALIZED;
    for (;;) {
        while (machine->taken != machine->pushed) {
            stub_event *event = &machine->events[machine->taken++ % MOST_EVENTS];
            if (!(((uint64_t *)set)[event->gpu] & event->type))
                continue;
            *into = (event_data){&machine->gpu[event->gpu], event->type, event->data, UINT32_MAX, UINT32_MAX};
            return SUCCESS;
        }
        if (!timeout_ms)
            return TIMEOUT;
        usleep(1000);
        timeout_ms--;
    }
}

/* ---- performance monitor ---- */

typedef struct { stub_gpu *gpu; uint64_t time_ns; } gpm_sample;
typedef struct { unsigned id, code; double value; const char *names[3]; } gpm_metric;
typedef struct { unsigned version, count; gpm_sample *older, *newer; gpm_metric metrics[]; } gpm_get;
typedef struct { unsigned version, supported; } gpm_support;

int nvmlGpmQueryDeviceSupport(stub_gpu *gpu, gpm_support *support)
{
    ENTER(GPM);
    support->supported = 1;
    return SUCCESS;
}

int nvmlGpmSampleAlloc(gpm_sample **into)
{
    *into = calloc(1, sizeof **into);
    return *into ? SUCCESS : INSUFFICIENT_SIZE;
}

int nvmlGpmSampleFree(gpm_sample *one)
{
    free(one);
    return SUCCESS;
}

int nvmlGpmSampleGet(stub_gpu *gpu, gpm_sample *into)
{
    ENTER(GPM);
    *into = (gpm_sample){gpu, now_ns()};
    return SUCCESS;
}

int nvmlGpmMetricsGet(gpm_get *get)
{
    if (get->version != 1 || !get->newer || get->newer->gpu != get->older->gpu ||
        get->newer->time_ns <= get->older->time_ns)
        return INVALID_ARGUMENT;
    for (unsigned at = 0; at < get->count; at++) {
        gpm_metric *one = &get->metrics[at];
        one->value = one->id < GPM_METRICS ? get->newer->gpu->gpm[one->id] : NAN;
        one->code = isnan(one->value) ? NOT_SUPPORTED : SUCCESS;
    }
    return SUCCESS;
}
