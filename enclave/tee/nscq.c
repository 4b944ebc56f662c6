//go:build linux && cgo

#include "nscq.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

const char *bombyx_nscq_open(nscq *n, const char *path, nscq_rc *rc) {
	memset(n, 0, sizeof *n);
	n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!n->library)
		return "loading libnvidia-nscq.so.2";
	*(void **)&n->create = dlsym(n->library, "nscq_session_create");
	*(void **)&n->destroy = dlsym(n->library, "nscq_session_destroy");
	*(void **)&n->observe = dlsym(n->library, "nscq_session_path_observe");
	*(void **)&n->input = dlsym(n->library, "nscq_session_set_input");
	*(void **)&n->label = dlsym(n->library, "nscq_uuid_to_label");
	if (!n->create || !n->destroy || !n->observe || !n->input || !n->label) {
		bombyx_nscq_close(n);
		return "finding the attestation functions of NSCQ";
	}
	nscq_session_result r = n->create(NSCQ_MOUNT_DEVICES);
	n->session = r.session;
	if (r.rc < 0 || !r.session) {
		*rc = r.rc;
		n->session = NULL;
		bombyx_nscq_close(n);
		return "opening an NSCQ session";
	}
	return NULL;
}

void bombyx_nscq_close(nscq *n) {
	if (n->session)
		n->destroy(n->session);
	if (n->library)
		dlclose(n->library);
	memset(n, 0, sizeof *n);
}

struct list {
	nscq_uuid *out;
	int count;
	nscq_rc rc;
};

static void on_uuid(const nscq_uuid *device, nscq_rc rc, const nscq_uuid *uuid, void *data) {
	struct list *l = data;
	(void)device;
	if (rc < 0 || !uuid) {
		l->rc = rc < 0 ? rc : -5;
		return;
	}
	if (l->count < NSCQ_MAX_SWITCHES)
		l->out[l->count] = *uuid;
	l->count++;
}

const char *bombyx_nscq_list(nscq *n, nscq_uuid *out, int *count, nscq_rc *rc) {
	struct list l = {out, 0, 0};
	nscq_rc ret = n->observe(n->session, "/drv/nvswitch/{device}/uuid", (nscq_fn)on_uuid, &l, 0);
	*count = l.count;
	*rc = ret < 0 ? ret : l.rc;
	return *rc < 0 ? "listing NVSwitches" : NULL;
}

static void answered(nscq_switch *s, nscq_rc rc) {
	s->answers++;
	if (rc < s->rc)
		s->rc = rc;
}

static void on_mode(const nscq_uuid *device, nscq_rc rc, int8_t mode, void *data) {
	nscq_switch *s = data;
	(void)device;
	answered(s, rc);
	s->mode = mode;
}

static void on_chain(const nscq_uuid *device, nscq_rc rc, const nscq_chain chain, void *data) {
	nscq_switch *s = data;
	(void)device;
	answered(s, rc);
	s->chain = chain;
}

static void on_report(const nscq_uuid *device, nscq_rc rc, const nscq_report report, void *data) {
	nscq_switch *s = data;
	(void)device;
	answered(s, rc);
	s->report = report;
}

static int ask(nscq *n, const nscq_label *label, const char *what, nscq_fn f, nscq_switch *s) {
	char path[128];
	uint32_t before = s->answers;
	snprintf(path, sizeof path, "/%.63s/config/%s", label->data, what);
	nscq_rc rc = n->observe(n->session, path, f, s, 0);
	if (rc < s->rc)
		s->rc = rc;
	return s->rc >= 0 && s->answers == before + 1;
}

const char *bombyx_nscq_read(nscq *n, const nscq_uuid *uuid, uint8_t nonce[32], nscq_switch *out) {
	nscq_label label;
	memset(out, 0, sizeof *out);
	memset(&label, 0, sizeof label);
	out->rc = n->label(uuid, &label, 0);
	if (out->rc < 0)
		return "naming";
	if (!ask(n, &label, "pcie_mode", (nscq_fn)on_mode, out))
		return "reading the mode";
	if (!ask(n, &label, "certificate", (nscq_fn)on_chain, out))
		return "reading the certificate chain";
	nscq_rc rc = n->input(n->session, 0, nonce, 32);
	if (rc < 0) {
		out->rc = rc;
		return "passing the nonce";
	}
	if (!ask(n, &label, "attestation_report", (nscq_fn)on_report, out))
		return "making the report";
	return NULL;
}
