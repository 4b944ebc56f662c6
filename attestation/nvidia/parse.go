package nvidia

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/internal/le"
)

// ParseReport parses one report strictly: every length accounts for every
// byte, the request is the one NVIDIA's drivers send, measurement indices and
// opaque fields are unique, and known opaque fields have their known lengths
// and values. Opaque fields with an unknown id are kept and listed in
// Report.Unknown. The signature is not checked. The report aliases b.
func ParseReport(b []byte) (*Report, error) {
	if len(b) > MaxReportSize {
		return nil, fmt.Errorf("nvidia: report of %d bytes, the most is %d", len(b), MaxReportSize)
	}
	r := &Report{}
	in := le.Reader{Format: "nvidia", Bytes: b}

	req := in.Next(RequestSize, "request")
	resp := in.Next(8, "response header")
	if in.Err != nil {
		return nil, in.Err
	}
	if req[0] != SPDMVersion || req[1] != CodeGetMeasurements || req[2] != RequestSignature || req[3] != RequestAllMeasurements || req[RequestSize-1] != 0 {
		return nil, fmt.Errorf("nvidia: request header %x with slot %d, want %02x%02x%02x%02x with slot 0 (GET_MEASUREMENTS, signed, all)",
			req[:4], req[RequestSize-1], SPDMVersion, CodeGetMeasurements, RequestSignature, RequestAllMeasurements)
	}
	copy(r.Nonce[:], req[NonceOffset:])
	if resp[0] != SPDMVersion || resp[1] != CodeMeasurements || resp[2] != 0 || resp[3] != 0 {
		return nil, fmt.Errorf("nvidia: response header %x, want %02x%02x0000 (MEASUREMENTS, slot 0)", resp[:4], SPDMVersion, CodeMeasurements)
	}

	blocks := int(resp[4])
	record := in.Next(int(resp[5])|int(resp[6])<<8|int(resp[7])<<16, "measurement record")
	copy(r.ResponseNonce[:], in.Next(NonceSize, "response nonce"))
	opaque := in.Next(in.Uint16("opaque length"), "opaque data")
	r.Signed = b[:in.Off]
	copy(r.Signature[:], in.Next(SignatureSize, "signature"))
	if in.Err != nil {
		return nil, in.Err
	}
	if in.Off != len(b) {
		return nil, fmt.Errorf("nvidia: %d trailing bytes after the signature", len(b)-in.Off)
	}
	if err := r.parseRecord(record, blocks); err != nil {
		return nil, err
	}
	if err := r.parseFields(opaque); err != nil {
		return nil, err
	}
	if err := r.interpret(); err != nil {
		return nil, err
	}
	return r, nil
}

// parseRecord reads the measurement blocks (DSP0274 1.1.0, measurement block).
func (r *Report) parseRecord(record []byte, blocks int) error {
	if blocks == 0 {
		return fmt.Errorf("nvidia: report without measurements")
	}
	var seen [256]bool
	r.Measurements = make([]Measurement, 0, blocks)
	in := le.Reader{Format: "nvidia", Bytes: record}
	for range blocks {
		head := in.Next(2, "measurement block")
		body := le.Reader{Format: "nvidia", Bytes: in.Next(in.Uint16("measurement size"), "measurement")}
		typ := body.Next(1, "measurement type")
		value := body.Next(body.Uint16("measurement value size"), "measurement value")
		if in.Err != nil {
			return in.Err
		}
		if body.Err != nil {
			return body.Err
		}
		index := head[0]
		switch {
		case head[1] != MeasurementSpecDMTF:
			return fmt.Errorf("nvidia: measurement %d has specification %#02x, want %#02x (DMTF)", index, head[1], MeasurementSpecDMTF)
		case index == 0 || index == 0xFF:
			return fmt.Errorf("nvidia: measurement index %d is reserved", index)
		case seen[index]:
			return fmt.Errorf("nvidia: measurement %d appears twice", index)
		case body.Off != len(body.Bytes):
			return fmt.Errorf("nvidia: measurement %d has %d bytes behind its value", index, len(body.Bytes)-body.Off)
		case len(value) == 0:
			return fmt.Errorf("nvidia: measurement %d is empty", index)
		}
		seen[index] = true
		r.Measurements = append(r.Measurements, Measurement{Index: index, Type: typ[0], Value: value})
	}
	if in.Off != len(record) {
		return fmt.Errorf("nvidia: %d bytes behind the last of %d measurements", len(record)-in.Off, blocks)
	}
	return nil
}

// parseFields reads the opaque data into r.Fields.
func (r *Report) parseFields(opaque []byte) error {
	in := le.Reader{Format: "nvidia", Bytes: opaque}
	for in.Off < len(opaque) {
		id := in.Uint16("opaque field id")
		value := in.Next(in.Uint16("opaque field size"), "opaque field")
		if in.Err != nil {
			return in.Err
		}
		if len(r.Fields) == MaxFields {
			return fmt.Errorf("nvidia: more than %d opaque fields", MaxFields)
		}
		if r.Field(uint16(id)) != nil {
			return fmt.Errorf("nvidia: opaque field %d appears twice", id)
		}
		r.Fields = append(r.Fields, Field{ID: uint16(id), Value: value})
	}
	return nil
}

// Field returns the value of the opaque field with that id, or nil. An empty
// field is not nil.
func (r *Report) Field(id uint16) []byte {
	for _, f := range r.Fields {
		if f.ID == id {
			return f.Value
		}
	}
	return nil
}

// interpret gives the opaque fields their types.
func (r *Report) interpret() error {
	driver, gpus := r.Field(FieldDriverVersion) != nil, r.Field(FieldGPUPDIs) != nil
	switch {
	case driver && !gpus:
		r.Kind = KindGPU
	case gpus && !driver:
		r.Kind = KindSwitch
	default:
		return fmt.Errorf("nvidia: neither a GPU report (field %d) nor a switch report (field %d)", FieldDriverVersion, FieldGPUPDIs)
	}
	// The version says how to read everything else.
	if v := r.Field(FieldOpaqueVersion); v != nil {
		n, err := littleEndian(v)
		if err != nil {
			return fmt.Errorf("nvidia: opaque data version: %w", err)
		}
		if n > MaxOpaqueVersion {
			return fmt.Errorf("nvidia: opaque data version %d, the newest that is understood is %d", n, MaxOpaqueVersion)
		}
		r.OpaqueVersion = n
	}
	for _, f := range r.Fields {
		var known bool
		var err error
		if r.Kind == KindGPU {
			known, err = r.gpuField(f)
		} else {
			known, err = r.switchField(f)
		}
		if err != nil {
			return fmt.Errorf("nvidia: opaque field %d: %w", f.ID, err)
		}
		if !known {
			r.Unknown = append(r.Unknown, f.ID)
		}
	}
	if r.VBIOSVersion == "" {
		return fmt.Errorf("nvidia: report without a VBIOS version (field %d)", FieldVBIOSVersion)
	}
	if r.Kind == KindSwitch && r.DevicePDI == (PDI{}) {
		return fmt.Errorf("nvidia: switch report without its device id (field %d)", FieldDevicePDI)
	}
	return nil
}

func (r *Report) gpuField(f Field) (known bool, err error) {
	v := f.Value
	switch f.ID {
	case FieldDriverVersion:
		r.DriverVersion, err = versionText(v)
	case FieldVBIOSVersion:
		r.VBIOSVersion, err = vbiosVersion(v)
	case FieldChipSKU:
		r.ChipSKU, err = text(v)
	case FieldProject:
		r.Project, err = text(v)
	case FieldProjectSKU:
		r.ProjectSKU, err = text(v)
	case FieldChipInfo:
		r.ChipInfo, err = text(v)
	case FieldChipSKUMod, FieldProjectSKUMod:
		_, err = text(v)
	case FieldBoardID:
		r.BoardID = v
	case FieldFWID:
		r.FWID, err = v, wantSize(v, DigestSize)
	case FieldNVDEC0:
		r.NVDEC0, err = toggle(v)
	case FieldProtectedPCIe:
		r.ProtectedPCIe, err = toggle(v)
	case FieldSwitchPDIs:
		r.SwitchPDIs, err = pdis(v)
		for i := range r.SwitchPDIs {
			// GPUs write the id in the opposite order of switches and
			// certificates.
			slices.Reverse(r.SwitchPDIs[i][:])
		}
	case FieldMeasurementCount:
		err = wantMultiple(v, 4)
	case FieldOpaqueVersion: // read before all others
	case FieldFeatureFlag:
		var n uint64
		if n, err = littleEndian(v); err == nil {
			if n > 2 {
				return true, fmt.Errorf("confidential-computing mode %d is unknown", n)
			}
			r.Mode = Mode(n + 1)
		}
	case FieldCertIssuerName, FieldAuthorityKeyID, FieldGPUInfo, FieldSKU, FieldManufacturerID, FieldTamperDetection,
		FieldSMC, FieldVPR, FieldCPRInfo, FieldFloorsweptPorts, FieldPositionID, FieldLockStatus, FieldGPULinkConn, FieldSysEnableStatus:
	default:
		return false, nil
	}
	return true, err
}

func (r *Report) switchField(f Field) (known bool, err error) {
	v := f.Value
	switch f.ID {
	case FieldVBIOSVersion:
		r.VBIOSVersion, err = versionText(v)
	case FieldDevicePDI:
		if err = wantSize(v, len(PDI{})); err == nil {
			r.DevicePDI = PDI(v)
		}
	case FieldGPUPDIs:
		// Eight ids, then one byte per port.
		const ids = 8 * len(PDI{})
		if len(v) < ids {
			return true, fmt.Errorf("%d bytes, want at least %d", len(v), ids)
		}
		r.GPUPDIs, err = pdis(v[:ids])
	case FieldFWID:
		r.FWID, err = v, wantSize(v, DigestSize)
	case FieldMeasurementCount:
		err = wantMultiple(v, 4)
	case FieldOpaqueVersion: // read before all others
	case FieldLockStatus:
		var n uint64
		if n, err = littleEndian(v); err == nil {
			if n > 1 {
				return true, fmt.Errorf("lock status %d is unknown", n)
			}
			r.Lock = []Toggle{ToggleDisabled, ToggleEnabled}[n]
		}
	case FieldCertIssuerName, FieldAuthorityKeyID, FieldSKU, FieldManufacturerID, FieldTamperDetection,
		FieldBoardID, FieldChipSKU, FieldChipSKUMod, FieldProject, FieldProjectSKU, FieldProjectSKUMod,
		FieldFloorsweptPorts, FieldPositionID:
	default:
		return false, nil
	}
	return true, err
}

// DriverRIMID returns the name under which NVIDIA's RIM service holds the
// driver's reference values, or "" for a switch. The model is Device.Model.
func (r *Report) DriverRIMID(model string) string {
	switch {
	case r.Kind != KindGPU:
		return ""
	case model == "GH100":
		return "NV_GPU_DRIVER_GH100_" + r.DriverVersion
	case r.ChipInfo != "":
		return "NV_GPU_CC_DRIVER_" + r.ChipInfo + "_" + r.DriverVersion
	}
	return "NV_GPU_CC_DRIVER_" + model + "_" + r.DriverVersion
}

// VBIOSRIMID returns the name under which NVIDIA's RIM service holds the
// reference values of the VBIOS (GPU) or BIOS (switch).
func (r *Report) VBIOSRIMID() string {
	version := strings.ToUpper(strings.ReplaceAll(r.VBIOSVersion, ".", ""))
	if r.Kind == KindSwitch {
		// LS10 reports do not carry project and SKU; there is one product.
		return "NV_SWITCH_BIOS_5612_0002_890_" + version
	}
	return strings.ToUpper("NV_GPU_VBIOS_" + r.Project + "_" + r.ProjectSKU + "_" + r.ChipSKU + "_" + version)
}

func wantSize(v []byte, n int) error {
	if len(v) != n {
		return fmt.Errorf("%d bytes, want %d", len(v), n)
	}
	return nil
}

func wantMultiple(v []byte, n int) error {
	if len(v)%n != 0 {
		return fmt.Errorf("%d bytes, want a multiple of %d", len(v), n)
	}
	return nil
}

func littleEndian(v []byte) (n uint64, err error) {
	if len(v) == 0 || len(v) > 8 {
		return 0, fmt.Errorf("%d bytes, want 1 to 8", len(v))
	}
	for i, b := range v {
		n |= uint64(b) << (8 * i)
	}
	return n, nil
}

func toggle(v []byte) (Toggle, error) {
	if err := wantSize(v, 1); err != nil {
		return 0, err
	}
	t := Toggle(v[0])
	if t != ToggleEnabled && t != ToggleDisabled {
		return 0, fmt.Errorf("value %#02x, want %#02x (enabled) or %#02x (disabled)", v[0], uint8(ToggleEnabled), uint8(ToggleDisabled))
	}
	return t, nil
}

func pdis(v []byte) ([]PDI, error) {
	if err := wantMultiple(v, len(PDI{})); err != nil {
		return nil, err
	}
	out := make([]PDI, 0, len(v)/len(PDI{}))
	for c := range slices.Chunk(v, len(PDI{})) {
		out = append(out, PDI(c))
	}
	return out, nil
}

// text reads ASCII padded with NUL bytes. Its characters end up in file names
// and messages, so only letters, digits, '.', '_' and '-' are allowed.
func text(v []byte) (string, error) {
	if len(v) > 64 {
		return "", fmt.Errorf("text of %d bytes, the most is 64", len(v))
	}
	s := strings.TrimRight(string(v), "\x00")
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '.', c == '_', c == '-':
		default:
			return "", fmt.Errorf("text holds the byte %#02x", c)
		}
	}
	return s, nil
}

func versionText(v []byte) (string, error) {
	s, err := text(v)
	if err == nil && s == "" {
		err = fmt.Errorf("empty version")
	}
	return s, err
}

// vbiosVersion formats a GPU's VBIOS version: a little-endian 32-bit number
// whose bytes are the first four parts, then the fifth part, then zeros.
func vbiosVersion(v []byte) (string, error) {
	if err := wantSize(v, 8); err != nil {
		return "", err
	}
	if v[5]|v[6]|v[7] != 0 {
		return "", fmt.Errorf("VBIOS version %x ends in other bytes than zero", v)
	}
	h := strings.ToUpper(hex.EncodeToString([]byte{v[3], v[2], v[1], v[0], v[4]}))
	return h[0:2] + "." + h[2:4] + "." + h[4:6] + "." + h[6:8] + "." + h[8:10], nil
}
