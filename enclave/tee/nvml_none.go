//go:build !linux || !cgo

package tee

import "errors"

func openDevices(Devices, string, string) (devices, error) {
	return nil, errors.New("tee: this build cannot collect GPU evidence; build bombyx-enclave with `make enclave-gpu`")
}
