// A driver for tests: the functions of libnvidia-ml.so.1 and libnvidia-nscq.so.2
// that the collectors call. Every answer comes from the test, over the Unix
// socket that $BOMBYX_TEST_DRIVER names: a request is the function's name or
// NSCQ's path (96 bytes, NUL-padded), a device's number (4 bytes) and a nonce
// (32 bytes); an answer is a return code (4 bytes), a length (4 bytes) and what
// to write to the caller's structure. Numbers are little-endian.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int all(int fd, void *p, size_t n, int out) {
	for (char *b = p; n > 0;) {
		ssize_t k = out ? write(fd, b, n) : read(fd, b, n);
		if (k <= 0)
			return 0;
		b += k, n -= k;
	}
	return 1;
}

static int ask(const char *what, uint32_t device, const uint8_t *nonce, void *out, uint32_t room, uint32_t *got) {
	struct __attribute__((packed)) { char what[96]; uint32_t device; uint8_t nonce[32]; } q = {{0}, device, {0}};
	struct __attribute__((packed)) { int32_t code; uint32_t size; } a;
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	snprintf(q.what, sizeof q.what, "%s", what);
	if (nonce)
		memcpy(q.nonce, nonce, 32);
	snprintf(to.sun_path, sizeof to.sun_path, "%s", getenv("BOMBYX_TEST_DRIVER"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), ok;
	ok = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && all(fd, &q, sizeof q, 1) && all(fd, &a, sizeof a, 0) &&
		a.size <= room && all(fd, out, a.size, 0);
	close(fd);
	if (!ok)
		abort(); // the test is wrong
	if (got)
		*got = a.size;
	return a.code;
}

// NVML. A device is the address of its number.
static uint32_t numbers[64];
typedef uint32_t *device;

int nvmlInit_v2(void) { return ask("init", 0, 0, 0, 0, 0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 3 ? "not supported" : code == 15 ? "GPU is lost" : "some error"; }
int nvmlDeviceGetCount_v2(uint32_t *n) { return ask("count", 0, 0, n, 4, 0); }
int nvmlDeviceGetHandleByIndex_v2(uint32_t i, device *d) {
	numbers[i % 64] = i;
	*d = &numbers[i % 64];
	return ask("handle", i, 0, 0, 0, 0);
}
int nvmlSystemGetConfComputeState(void *state) { return ask("state", 0, 0, state, 12, 0); }
#ifndef OLD
int nvmlSystemGetConfComputeSettings(void *settings) { return ask("settings", 0, 0, (char *)settings + 4, 16, 0); }
#endif
int nvmlSystemGetConfComputeGpusReadyState(void *ready) { return ask("ready", 0, 0, ready, 4, 0); }
int nvmlSystemSetConfComputeGpusReadyState(uint32_t ready) { return ask("set ready", ready, 0, 0, 0, 0); }
int nvmlDeviceGetConfComputeGpuCertificate(device d, void *chain) { return ask("certificate", *d, 0, chain, 8 + 4096 + 5120, 0); }
int nvmlDeviceGetConfComputeGpuAttestationReport(device d, uint8_t *report) {
	return ask("report", *d, report + 12, report, 12 + 32 + 8192 + 4096, 0);
}

// NSCQ. A switch's UUID begins with its number.
struct session_result { int8_t code; void *session; };
struct report { uint32_t size; uint8_t bytes[0x2000]; };
struct chain { uint8_t bytes[0x1400]; uint32_t size; };
static uint8_t input[32];

struct session_result nscq_session_create(uint32_t flags) {
	struct session_result r = {ask("session", flags, 0, 0, 0, 0), input};
	return r;
}
void nscq_session_destroy(void *session) { (void)session; }
int8_t nscq_session_set_input(void *session, uint32_t flags, const void *bytes, uint32_t size) {
	(void)session, (void)flags;
	if (size != sizeof input)
		return -4;
	memcpy(input, bytes, size);
	return 0;
}
int8_t nscq_uuid_to_label(const uint8_t uuid[16], char label[64], uint32_t flags) {
	(void)flags;
	snprintf(label, 64, "switch-%d", uuid[0]);
	return 0;
}
int8_t nscq_session_path_observe(void *session, const char *path, void (*f)(void), void *data, uint32_t flags) {
	(void)session, (void)flags;
	uint32_t n;
	if (strstr(path, "/uuid")) {
		uint8_t uuids[64][16];
		int8_t code = ask("uuid", 0, 0, uuids, sizeof uuids, &n);
		for (uint32_t i = 0; i < n / 16; i++)
			((void (*)(const void *, int8_t, const void *, void *))f)(0, code, uuids[i], data);
		return code;
	}
	unsigned device = 99;
	char what[64];
	if (sscanf(path, "/switch-%u/config/%63s", &device, what) != 2)
		return -3;
	if (!strcmp(what, "pcie_mode")) {
		int8_t mode = 0;
		int8_t code = ask(what, device, 0, &mode, 1, &n);
		((void (*)(const void *, int8_t, int8_t, void *))f)(0, code, mode, data);
	} else if (!strcmp(what, "certificate")) {
		struct chain c = {{0}, 0};
		int8_t code = ask("switch certificate", device, 0, &c, sizeof c, &n);
		((void (*)(const void *, int8_t, struct chain, void *))f)(0, code, c, data);
	} else if (!strcmp(what, "attestation_report")) {
		struct report r = {0, {0}};
		int8_t code = ask("switch report", device, input, &r, sizeof r, &n);
		if (code != 1) // nobody answers, as when the device is gone
			((void (*)(const void *, int8_t, struct report, void *))f)(0, code, r, data);
	}
	return 0;
}
