/* NVIDIA's management library as the real Python binding sees it, without a GPU.
 *
 * What it answers is in the file that FAKE_NVML names, read anew at each call, one answer a line:
 *   count 1                      cards
 *   0.temperature 63             card 0; also name, uuid, memory (used total), load (percent)
 *   0.temperature! 15            the call fails with that NVML error number; also handle!, init!, count!
 *   0.temperature@               the call does not return as long as this line is there; also init@
 * A call that no line answers is "not supported" (3); without the file there is no driver (9). Each
 * nvmlInit and nvmlShutdown that succeeds adds a line to the file named by FAKE_NVML_CALLS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOT_SUPPORTED 3
#define DRIVER_NOT_LOADED 9
#define FUNCTION_NOT_FOUND 13

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct { unsigned int version; unsigned int sensor; int temperature; } Temperature;

static int look(const char *key, char *value, size_t size) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    int found = 0;
    if (!file) return -1;
    while (!found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        if (strncmp(line, key, length) || (line[length] != ' ' && line[length] != '\n')) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(value, size, "%s", line[length] ? line + length + 1 : "");
        found = 1;
    }
    fclose(file);
    return found;
}

/* 0 and the value, or the error number. */
static int ask(const char *key, char *value, size_t size) {
    char name[64], number[64];
    int found;
    snprintf(name, sizeof name, "%s@", key);
    while (look(name, number, sizeof number) == 1) usleep(20000);
    snprintf(name, sizeof name, "%s!", key);
    if (look(name, number, sizeof number) == 1) return atoi(number);
    found = look(key, value, size);
    return found == 1 ? 0 : found == 0 ? NOT_SUPPORTED : DRIVER_NOT_LOADED;
}

static int ask_card(void *card, const char *what, char *value, size_t size) {
    char key[64];
    snprintf(key, sizeof key, "%d.%s", (int)(long)card - 1, what);
    return ask(key, value, size);
}

static void note(const char *what) {
    const char *path = getenv("FAKE_NVML_CALLS");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s\n", what);
    fclose(file);
}

int nvmlInitWithFlags(unsigned int flags) {
    char value[64];
    int error = ask("init", value, sizeof value);
    (void)flags;
    if (error == NOT_SUPPORTED) error = 0;
    if (!error) note("init");
    return error;
}

int nvmlShutdown(void) {
    note("shutdown");
    return 0;
}

const char *nvmlErrorString(int error) {
    switch (error) {
        case NOT_SUPPORTED: return "Not Supported";
        case 4: return "Insufficient Permissions";
        case 15: return "GPU is lost";
        case 16: return "GPU requires reset";
        default: return "Unknown Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    char value[64];
    int error = ask("count", value, sizeof value);
    if (!error) *count = (unsigned int)atoi(value);
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **card) {
    char value[64];
    int error;
    *card = (void *)(long)(index + 1);
    error = ask_card(*card, "handle", value, sizeof value);
    return error == NOT_SUPPORTED ? 0 : error;
}

int nvmlDeviceGetUUID(void *card, char *buffer, unsigned int size) {
    return ask_card(card, "uuid", buffer, size);
}

int nvmlDeviceGetName(void *card, char *buffer, unsigned int size) {
    return ask_card(card, "name", buffer, size);
}

/* The older question. */
int nvmlDeviceGetTemperature(void *card, int sensor, unsigned int *temperature) {
    char value[64];
    int error = ask_card(card, "temperature", value, sizeof value);
    if (!error && sensor == 0) *temperature = (unsigned int)atoi(value);
    return error;
}

/* The newer one, which older drivers do not have: a line "old" in the file makes this such a one. */
int nvmlDeviceGetTemperatureV(void *card, Temperature *asked) {
    char value[64];
    int error;
    if (look("old", value, sizeof value) == 1) return FUNCTION_NOT_FOUND;
    if (asked->version != (sizeof(Temperature) | 1 << 24)) return 25;
    error = ask_card(card, "temperature", value, sizeof value);
    if (!error) asked->temperature = atoi(value);
    return error;
}

int nvmlDeviceGetMemoryInfo(void *card, Memory *memory) {
    char value[64];
    int error = ask_card(card, "memory", value, sizeof value);
    if (error) return error;
    sscanf(value, "%llu %llu", &memory->used, &memory->total);
    memory->free = memory->total - memory->used;
    return 0;
}

int nvmlDeviceGetUtilizationRates(void *card, Utilization *rates) {
    char value[64];
    int error = ask_card(card, "load", value, sizeof value);
    if (error) return error;
    rates->gpu = (unsigned int)atoi(value);
    rates->memory = 0;
    return 0;
}
