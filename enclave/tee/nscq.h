// The part of NSCQ's interface, libnvidia-nscq.so.2, that gives the Evidence
// of NVSwitches. NVIDIA publishes it as source of its attestation SDK.
#ifndef BOMBYX_NSCQ_H
#define BOMBYX_NSCQ_H
#include <stdint.h>

enum { NSCQ_MAX_SWITCHES = 32, NSCQ_REPORT_SIZE = 0x2000, NSCQ_CHAIN_SIZE = 0x1400, NSCQ_MOUNT_DEVICES = 1, NSCQ_LOCKED = 3 };

typedef int8_t nscq_rc; // 0 success, above 0 a warning, below 0 an error
typedef struct { uint8_t bytes[16]; } nscq_uuid;
typedef struct { char data[64]; } nscq_label;
typedef struct { uint32_t size; uint8_t bytes[NSCQ_REPORT_SIZE]; } nscq_report;
typedef struct { uint8_t bytes[NSCQ_CHAIN_SIZE]; uint32_t size; } nscq_chain;
typedef struct { nscq_rc rc; void *session; } nscq_session_result;
typedef void (*nscq_fn)(void);

// Every answer to a path is a call of a function of its own type:
// void f(const nscq_uuid *device, nscq_rc rc, VALUE value, void *data).

// nscq is the loaded library and its session.
typedef struct {
	void *library, *session;
	nscq_session_result (*create)(uint32_t flags);
	void (*destroy)(void *session);
	nscq_rc (*observe)(void *session, const char *path, nscq_fn f, void *data, uint32_t flags);
	nscq_rc (*input)(void *session, uint32_t flags, void *bytes, uint32_t size);
	nscq_rc (*label)(const nscq_uuid *uuid, nscq_label *label, uint32_t flags);
} nscq;

// nscq_switch is what one switch shows. rc is the worst answer to any of the
// questions; answers counts them, so that a question nobody answered shows.
typedef struct {
	nscq_rc rc;
	uint32_t answers;
	int8_t mode;
	nscq_report report;
	nscq_chain chain;
} nscq_switch;

// The functions return NULL, or what could not be done, in static storage.
const char *bombyx_nscq_open(nscq *n, const char *path, nscq_rc *rc);
const char *bombyx_nscq_list(nscq *n, nscq_uuid *out, int *count, nscq_rc *rc); // out holds NSCQ_MAX_SWITCHES; count may be more
const char *bombyx_nscq_read(nscq *n, const nscq_uuid *uuid, uint8_t nonce[32], nscq_switch *out);
void bombyx_nscq_close(nscq *n);
#endif
