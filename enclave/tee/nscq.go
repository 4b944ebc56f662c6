//go:build linux && cgo

package tee

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "nscq.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/bombyx-network/bombyx/attestation"
)

// switches collects NVSwitch Evidence through NSCQ: NVML does not give it.
type switches struct{ n C.nscq }

const nscqLibrary = "libnvidia-nscq.so.2"

// openSwitches loads the library, "" for its usual name.
func openSwitches(path string) (*switches, error) {
	if path == "" {
		path = nscqLibrary
	}
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	s := new(switches)
	var rc C.nscq_rc
	if failed := C.bombyx_nscq_open(&s.n, p, &rc); failed != nil {
		return nil, fmt.Errorf("tee: %s failed with code %d; install the package libnvidia-nscq of the driver's own version", C.GoString(failed), rc)
	}
	return s, nil
}

func (s *switches) close() { C.bombyx_nscq_close(&s.n) }

func (s *switches) collect(nonce [32]byte, want int) ([]attestation.Device, error) {
	var uuids [C.NSCQ_MAX_SWITCHES]C.nscq_uuid
	var count C.int
	var rc C.nscq_rc
	if failed := C.bombyx_nscq_list(&s.n, &uuids[0], &count, &rc); failed != nil {
		return nil, fmt.Errorf("tee: %s failed with code %d", C.GoString(failed), rc)
	}
	if int(count) != want {
		return nil, fmt.Errorf("tee: the driver shows %d NVSwitches, the configuration promises %d", count, want)
	}
	var out []attestation.Device
	for i := range want {
		d, err := s.read(&uuids[i], nonce)
		if err != nil {
			return nil, fmt.Errorf("tee: NVSwitch %d: %w", i, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (s *switches) read(uuid *C.nscq_uuid, nonce [32]byte) (out attestation.Device, err error) {
	var r C.nscq_switch
	if failed := C.bombyx_nscq_read(&s.n, uuid, (*C.uint8_t)(&nonce[0]), &r); failed != nil {
		return out, fmt.Errorf("%s failed with code %d", C.GoString(failed), r.rc)
	}
	// Of the modes unknown (-1), disabled, enabled, failure and locked, only
	// the last keeps the host from configuring the switch.
	if r.mode != C.NSCQ_LOCKED {
		return out, fmt.Errorf("its mode is %d, want %d (locked); put the node into protected-PCIe mode", r.mode, C.NSCQ_LOCKED)
	}
	report := C.GoBytes(unsafe.Pointer(&r.report.bytes[0]), C.NSCQ_REPORT_SIZE)
	chain := C.GoBytes(unsafe.Pointer(&r.chain.bytes[0]), C.NSCQ_CHAIN_SIZE)
	return device(attestation.DeviceSwitch, nonce, report, uint32(r.report.size), chain, uint32(r.chain.size))
}
