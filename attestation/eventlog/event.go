package eventlog

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// Type is the type of an event.
type Type uint32

// Types of events (TCG PFP 1.04, 9.4.1).
const (
	EventPrebootCert          Type = 0x00
	EventPostCode             Type = 0x01
	EventNoAction             Type = 0x03
	EventSeparator            Type = 0x04
	EventAction               Type = 0x05
	EventTag                  Type = 0x06
	EventSCRTMContents        Type = 0x07
	EventSCRTMVersion         Type = 0x08
	EventCPUMicrocode         Type = 0x09
	EventPlatformConfigFlags  Type = 0x0A
	EventTableOfDevices       Type = 0x0B
	EventCompactHash          Type = 0x0C
	EventIPL                  Type = 0x0D
	EventIPLPartitionData     Type = 0x0E
	EventNonhostCode          Type = 0x0F
	EventNonhostConfig        Type = 0x10
	EventNonhostInfo          Type = 0x11
	EventOmitBootDeviceEvents Type = 0x12

	EventEFIVariableDriverConfig    Type = 0x80000001
	EventEFIVariableBoot            Type = 0x80000002
	EventEFIBootServicesApplication Type = 0x80000003
	EventEFIBootServicesDriver      Type = 0x80000004
	EventEFIRuntimeServicesDriver   Type = 0x80000005
	EventEFIGPT                     Type = 0x80000006
	EventEFIAction                  Type = 0x80000007
	EventEFIPlatformFirmwareBlob    Type = 0x80000008
	EventEFIHandoffTables           Type = 0x80000009
	EventEFIPlatformFirmwareBlob2   Type = 0x8000000A
	EventEFIHandoffTables2          Type = 0x8000000B
	EventEFIVariableBoot2           Type = 0x8000000C
	EventEFIHCRTM                   Type = 0x80000010
	EventEFIVariableAuthority       Type = 0x800000E0
	EventEFISPDMFirmwareBlob        Type = 0x800000E1
	EventEFISPDMFirmwareConfig      Type = 0x800000E2

	// EventDstackRuntime is dstack's: an event with a name, extended into
	// RTMR 3 with the digest that [DstackVersion1] or [DstackVersion2] defines.
	EventDstackRuntime Type = 0x08000001
	// EventCELContent stands for a CEL record whose content is of a kind of its
	// own. Its data is the content's TLV.
	EventCELContent Type = 0xFFFFFFFE
)

var typeNames = map[Type]string{
	EventPrebootCert: "EV_PREBOOT_CERT", EventPostCode: "EV_POST_CODE", EventNoAction: "EV_NO_ACTION", EventSeparator: "EV_SEPARATOR", EventAction: "EV_ACTION",
	EventTag: "EV_EVENT_TAG", EventSCRTMContents: "EV_S_CRTM_CONTENTS", EventSCRTMVersion: "EV_S_CRTM_VERSION", EventCPUMicrocode: "EV_CPU_MICROCODE",
	EventPlatformConfigFlags: "EV_PLATFORM_CONFIG_FLAGS", EventTableOfDevices: "EV_TABLE_OF_DEVICES", EventCompactHash: "EV_COMPACT_HASH", EventIPL: "EV_IPL",
	EventIPLPartitionData: "EV_IPL_PARTITION_DATA", EventNonhostCode: "EV_NONHOST_CODE", EventNonhostConfig: "EV_NONHOST_CONFIG", EventNonhostInfo: "EV_NONHOST_INFO",
	EventOmitBootDeviceEvents: "EV_OMIT_BOOT_DEVICE_EVENTS", EventEFIVariableDriverConfig: "EV_EFI_VARIABLE_DRIVER_CONFIG", EventEFIVariableBoot: "EV_EFI_VARIABLE_BOOT",
	EventEFIBootServicesApplication: "EV_EFI_BOOT_SERVICES_APPLICATION", EventEFIBootServicesDriver: "EV_EFI_BOOT_SERVICES_DRIVER",
	EventEFIRuntimeServicesDriver: "EV_EFI_RUNTIME_SERVICES_DRIVER", EventEFIGPT: "EV_EFI_GPT_EVENT", EventEFIAction: "EV_EFI_ACTION",
	EventEFIPlatformFirmwareBlob: "EV_EFI_PLATFORM_FIRMWARE_BLOB", EventEFIHandoffTables: "EV_EFI_HANDOFF_TABLES", EventEFIPlatformFirmwareBlob2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	EventEFIHandoffTables2: "EV_EFI_HANDOFF_TABLES2", EventEFIVariableBoot2: "EV_EFI_VARIABLE_BOOT2", EventEFIHCRTM: "EV_EFI_HCRTM_EVENT",
	EventEFIVariableAuthority: "EV_EFI_VARIABLE_AUTHORITY", EventEFISPDMFirmwareBlob: "EV_EFI_SPDM_FIRMWARE_BLOB", EventEFISPDMFirmwareConfig: "EV_EFI_SPDM_FIRMWARE_CONFIG",
	EventDstackRuntime: "dstack runtime event", EventCELContent: "CEL content",
}

// String returns the specification's name, or the number.
func (t Type) String() string {
	if n := typeNames[t]; n != "" {
		return n
	}
	return fmt.Sprintf("event type %#08x", uint32(t))
}

// bind finds out what the digest proves about the data. What a type measures
// is in TCG PFP 1.04, 9.4.1; GRUB's prefixes are in its documentation,
// "Measured Boot".
func (e *Event) bind(alg crypto.Hash) {
	whole := digest(alg, e.Data)
	switch {
	case e.Type == EventNoAction:
		e.Binding = NotMeasured
	case bytes.Equal(whole, e.Digest):
		e.Binding, e.NameBound = Bound, true // whatever the type: the data was measured
	case e.Type == EventEFIVariableBoot || e.Type == EventEFIVariableBoot2:
		if v, err := parseVariable(e.Data); err == nil {
			e.bindTo(digest(alg, v.Value))
		}
	case e.Type == EventIPL:
		e.Binding = Unbound // a file's digest beside the file's name
		for _, prefix := range []string{"grub_cmd: ", "kernel_cmdline: ", "module_cmdline: "} {
			if text, ok := bytes.CutPrefix(e.Data, []byte(prefix)); ok {
				e.bindTo(digest(alg, bytes.TrimSuffix(text, []byte{0})))
			}
		}
	case (e.Type == EventEFIVariableAuthority || e.Type == EventEFIVariableDriverConfig) && e.trimVariable(alg):
		e.Binding, e.NameBound = Bound, true
	case definedByData[e.Type]: // Contradicted: the zero value
	default:
		e.Binding = Unbound
	}
}

// trimVariable allows for older firmware that logs a few bytes of stray memory
// behind a variable, and measures all but the last of them. The data is cut to
// the variable, so that nothing unmeasured remains.
func (e *Event) trimVariable(alg crypto.Hash) bool {
	end, err := variableSize(e.Data)
	if err != nil || len(e.Data)-end > 7 {
		return false
	}
	for n := end; n < len(e.Data); n++ {
		if bytes.Equal(digest(alg, e.Data[:n]), e.Digest) {
			e.Data = e.Data[:end:end]
			return true
		}
	}
	return false
}

func (e *Event) bindTo(want []byte) {
	e.Binding = Contradicted // GRUB's files are Unbound until then
	if bytes.Equal(want, e.Digest) {
		e.Binding = Bound
	}
}

// definedByData lists the types whose digest is that of the whole data.
// EV_S_CRTM_VERSION is not among them: servers are known that measure more.
var definedByData = map[Type]bool{
	EventSeparator: true, EventAction: true, EventOmitBootDeviceEvents: true,
	EventEFIVariableDriverConfig: true, EventEFIVariableAuthority: true, EventEFIGPT: true, EventEFIAction: true, EventCELContent: true,
}

func digest(alg crypto.Hash, b []byte) []byte {
	h := alg.New()
	h.Write(b)
	return h.Sum(nil)
}

// Variable is a UEFI variable as measured (UEFI_VARIABLE_DATA, TCG PFP 1.04,
// 9.2.6).
type Variable struct {
	GUID  [16]byte // in its binary form
	Name  string
	Value []byte
}

// GUIDGlobalVariable is EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3) in binary form:
// the vendor of SecureBoot, PK and KEK.
var GUIDGlobalVariable = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

// Variable returns the UEFI variable that the event measured. It is an error
// unless the digest covers both name and value.
func (e *Event) Variable() (*Variable, error) {
	if !e.NameBound {
		return nil, fmt.Errorf("eventlog: the variable in an event of type %v is not covered by its digest", e.Type)
	}
	switch e.Type {
	case EventEFIVariableDriverConfig, EventEFIVariableBoot, EventEFIVariableBoot2, EventEFIVariableAuthority:
		return parseVariable(e.Data)
	}
	return nil, fmt.Errorf("eventlog: an event of type %v holds no variable", e.Type)
}

const variableHead = 16 + 8 + 8 // vendor, length of the name in characters, of the value in bytes

// variableSize returns the size that a variable claims, at most len(b).
func variableSize(b []byte) (int, error) {
	if len(b) < variableHead {
		return 0, errors.New("eventlog: UEFI variable is truncated")
	}
	chars, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	rest := uint64(len(b) - variableHead)
	if chars > rest/2 || size > rest-2*chars {
		return 0, fmt.Errorf("eventlog: UEFI variable of %d characters and %d bytes in %d bytes", chars, size, rest)
	}
	return variableHead + int(2*chars+size), nil
}

func parseVariable(b []byte) (*Variable, error) {
	end, err := variableSize(b)
	if err != nil {
		return nil, err
	}
	if end != len(b) {
		return nil, fmt.Errorf("eventlog: %d bytes behind a UEFI variable", len(b)-end)
	}
	v := &Variable{GUID: [16]byte(b[:16])}
	name := make([]uint16, binary.LittleEndian.Uint64(b[16:]))
	for i := range name {
		name[i] = binary.LittleEndian.Uint16(b[variableHead+2*i:])
	}
	v.Name, v.Value = string(utf16.Decode(name)), b[variableHead+2*len(name):]
	return v, nil
}

// SecureBoot returns the state of UEFI Secure Boot that the firmware measured,
// before the first separator, into PCR 7 or RTMR 0. It is believable once
// [Verify] has passed for that register. No such event, a second one, or one
// whose data was not measured is an error.
func (l *Log) SecureBoot() (bool, error) {
	register := 7
	if l.Registers == RTMR {
		register = 0
	}
	// The separator is known by its digest: its type is not measured.
	separator, failure := digest(l.Algorithm, []byte{0, 0, 0, 0}), digest(l.Algorithm, []byte{0xFF, 0xFF, 0xFF, 0xFF})
	var found *Variable
	for i := range l.Events {
		e := &l.Events[i]
		if e.Register != register {
			continue
		}
		if bytes.Equal(e.Digest, separator) || bytes.Equal(e.Digest, failure) {
			break
		}
		if e.Type != EventEFIVariableDriverConfig {
			continue
		}
		v, err := e.Variable()
		if err != nil {
			return false, err
		}
		if v.Name != "SecureBoot" || v.GUID != GUIDGlobalVariable {
			continue
		}
		if found != nil {
			return false, errors.New("eventlog: SecureBoot was measured more than once")
		}
		found = v
	}
	switch {
	case found == nil:
		return false, errors.New("eventlog: SecureBoot was not measured")
	case len(found.Value) == 0:
		return false, nil // the firmware has no such variable
	case len(found.Value) == 1 && found.Value[0] <= 1:
		return found.Value[0] == 1, nil
	}
	return false, fmt.Errorf("eventlog: SecureBoot is %x, want 00 or 01", found.Value)
}
