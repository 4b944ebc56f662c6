package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

var forgedNonce = func() []byte { x := gpu(); return x.nonce[:] }()

// TestForged shows that the forge makes good evidence: every negative below
// changes one thing of it.
func TestForged(t *testing.T) {
	for name, l := range map[string]layout{"CompositeDeviceID": {}, "TcbInfo": {tcbInfo: true, flags: []byte{0, 0x80, 0, 0, 1}}} {
		t.Run(name, func(t *testing.T) {
			f := newForge(t, l)
			driver, vbios := f.goldenRIMs()
			res := f.verifier().Verify(f.evidence(gpu()), Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{driver, vbios}}})
			want := map[string]check.Status{}
			for _, c := range res.Checks {
				want[c.ID] = check.Pass
			}
			for _, id := range []string{CheckDeviceOCSP, CheckDriverRIMOCSP, CheckVBIOSRIMOCSP} {
				want[id] = check.Skip
			}
			if !l.tcbInfo {
				want[CheckDebug] = check.Skip
			}
			wantStatus(t, res, want)
			if len(want) != 20 {
				t.Errorf("%d checks, want 20", len(want))
			}
			if !res.ValidUntil.Equal(at.AddDate(1, 0, 0)) {
				t.Errorf("valid until %v", res.ValidUntil)
			}
		})
	}
}

// onlyFails fails the test unless id failed because of why, and nothing else
// did.
func onlyFails(t *testing.T, res *Result, id, why string) {
	t.Helper()
	wantStatus(t, res, map[string]check.Status{id: check.Fail})
	if c := res.check(t, id); !strings.Contains(c.Detail, why) {
		t.Errorf("%s: %q, want %q", id, c.Detail, why)
	}
}

func TestParseNegatives(t *testing.T) {
	f := newForge(t, layout{})
	good := gpu().sign(t, f.keys[0])
	if _, err := ParseReport(good); err != nil {
		t.Fatal(err)
	}
	at := func(i int, v byte) []byte { b := bytes.Clone(good); b[i] = v; return b }
	change := func(change func(x *transcript)) []byte {
		x := gpu()
		change(x)
		return x.sign(t, f.keys[0])
	}
	field := func(id uint16, v ...byte) []byte {
		return change(func(x *transcript) { x.set(id, append([]byte{}, v...)) })
	}
	for name, x := range map[string]struct {
		report []byte
		why    string
	}{
		"empty":                    {nil, "truncated in the request"},
		"too large":                {make([]byte, MaxReportSize+1), "the most is"},
		"trailing byte":            {append(bytes.Clone(good), 0), "1 trailing bytes"},
		"one byte short":           {good[:len(good)-1], "truncated in the signature"},
		"SPDM 1.0":                 {at(0, 0x10), "request header"},
		"request code":             {at(1, 0xE1), "request header"},
		"unsigned request":         {at(2, 0), "request header"},
		"request of one index":     {at(3, 1), "request header"},
		"slot 1":                   {at(36, 1), "slot 1"},
		"response version":         {at(37, 0x12), "response header"},
		"error response":           {at(38, 0x7F), "response header"},
		"response param1":          {at(39, 1), "response header"},
		"response slot":            {at(40, 1), "response header"},
		"record too long":          {at(44, 0xFF), "truncated in the measurement record"},
		"no measurements":          {change(func(x *transcript) { x.blocks = nil }), "without measurements"},
		"fewer blocks than said":   {change(func(x *transcript) { x.count = 65 }), "truncated in the measurement block"},
		"more blocks than said":    {change(func(x *transcript) { x.count = 63 }), "behind the last"},
		"block twice":              {change(func(x *transcript) { x.blocks[1] = x.blocks[0] }), "measurement 1 appears twice"},
		"block 0":                  {change(func(x *transcript) { x.blocks[0][0] = 0 }), "index 0 is reserved"},
		"block 255":                {change(func(x *transcript) { x.blocks[0][0] = 255 }), "index 255 is reserved"},
		"not DMTF":                 {change(func(x *transcript) { x.blocks[0][1] = 2 }), "specification 0x02"},
		"value shorter than block": {change(func(x *transcript) { x.blocks[0][5]-- }), "1 bytes behind its value"},
		"value longer than block":  {change(func(x *transcript) { x.blocks[0][5]++ }), "truncated in the measurement value"},
		"empty value":              {change(func(x *transcript) { x.blocks[0] = block(1, nil) }), "measurement 1 is empty"},
		"field twice":              {change(func(x *transcript) { x.fields = append(x.fields, x.fields[0]) }), "appears twice"},
		"half a field":             {change(func(x *transcript) { x.tail = []byte{99} }), "truncated in the opaque field id"},
		"too many fields": {change(func(x *transcript) {
			for i := range uint16(MaxFields) {
				x.fields = append(x.fields, Field{1000 + i, nil})
			}
		}), "opaque fields"},
		"neither GPU nor switch":      {change(func(x *transcript) { x.set(FieldDriverVersion, nil) }), "neither a GPU report"},
		"both GPU and switch":         {field(FieldGPUPDIs, make([]byte, 64)...), "neither a GPU report"},
		"no VBIOS":                    {change(func(x *transcript) { x.set(FieldVBIOSVersion, nil) }), "without a VBIOS version"},
		"short VBIOS":                 {field(FieldVBIOSVersion, 1, 2, 3), "3 bytes, want 8"},
		"VBIOS with a tail":           {field(FieldVBIOSVersion, 1, 2, 3, 4, 5, 6, 0, 0), "other bytes than zero"},
		"empty driver":                {field(FieldDriverVersion, 0), "empty version"},
		"driver that is a path":       {field(FieldDriverVersion, []byte("../../x")...), "holds the byte 0x2f"},
		"driver with a NUL inside":    {field(FieldDriverVersion, []byte("1\x002")...), "holds the byte 0x00"},
		"driver too long":             {field(FieldDriverVersion, bytes.Repeat([]byte("1"), 65)...), "the most is 64"},
		"firmware id too short":       {field(FieldFWID, 1, 2), "2 bytes, want 48"},
		"NVDEC0 neither on nor off":   {field(FieldNVDEC0, 1), "value 0x01"},
		"protected PCIe of two bytes": {field(FieldProtectedPCIe, 0xAA, 0), "2 bytes, want 1"},
		"unknown mode":                {field(FieldFeatureFlag, 3, 0), "mode 3 is unknown"},
		"empty mode":                  {field(FieldFeatureFlag), "0 bytes, want 1 to 8"},
		"newer opaque data":           {field(FieldOpaqueVersion, 2, 0), "opaque data version 2"},
		"empty opaque version":        {field(FieldOpaqueVersion), "0 bytes, want 1 to 8"},
		"ragged switch ids":           {field(FieldSwitchPDIs, 1, 2, 3), "want a multiple of 8"},
		"ragged counts":               {field(FieldMeasurementCount, 1, 2, 3), "want a multiple of 4"},
		"switch without its id":       {nvswitch(PDI{}).sign(t, f.keys[0]), "without its device id"},
		"switch with a short id":      {nvswitch(PDI{1}).set(FieldDevicePDI, []byte{1}).sign(t, f.keys[0]), "1 bytes, want 8"},
		"switch with a new lock":      {nvswitch(PDI{1}).set(FieldLockStatus, []byte{2, 0}).sign(t, f.keys[0]), "lock status 2 is unknown"},
		"mode of 9 bytes":             {field(FieldFeatureFlag, make([]byte, 9)...), "9 bytes, want 1 to 8"},
		"switch with a short FWID":    {nvswitch(PDI{1}).set(FieldFWID, []byte{1}).sign(t, f.keys[0]), "1 bytes, want 48"},
		"switch with ragged counts":   {nvswitch(PDI{1}).set(FieldMeasurementCount, []byte{1, 2, 3}).sign(t, f.keys[0]), "want a multiple of 4"},
		"field cut":                   {change(func(x *transcript) { x.tail = []byte{99, 0, 2, 0, 1} }), "truncated in the opaque field"},
		"switch with few GPU ids":     {nvswitch(PDI{1}).set(FieldGPUPDIs, []byte{1}).sign(t, f.keys[0]), "want at least 64"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseReport(x.report)
			if err == nil || !strings.Contains(err.Error(), x.why) || r != nil {
				t.Fatalf("%v, want %q", err, x.why)
			}
			res := f.verifier().Verify(Evidence{Report: x.report, Chain: f.pem()}, Options{Nonce: forgedNonce, Time: time.Now()})
			if c := res.check(t, CheckParse); c.Status != check.Fail {
				t.Error("parse check passed")
			}
			if c := res.check(t, CheckSignature); c.Status != check.Skip {
				t.Errorf("signature is %v", c.Status)
			}
		})
	}
	t.Run("the longest report", func(t *testing.T) {
		if _, err := ParseReport(make([]byte, MaxReportSize)); err == nil || strings.Contains(err.Error(), "the most is") {
			t.Error(err)
		}
	})
	t.Run("what is read", func(t *testing.T) {
		name := "azAZ09._-" + strings.Repeat("x", 55)
		r, err := ParseReport(gpu().set(FieldProject, []byte(name)).set(FieldChipInfo, []byte("GB102")).set(FieldFeatureFlag, make([]byte, 8)).sign(t, f.keys[0]))
		if err != nil || r.Project != name || r.ProjectSKU != "0200" || r.ChipSKU != "882" || r.OpaqueVersion != 1 || r.Mode != ModeSinglePass || len(r.Measurements) != 64 {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := r.VBIOSRIMID(); got != "NV_GPU_VBIOS_"+strings.ToUpper(name)+"_0200_882_96005E0001" {
			t.Error(got)
		}
		for model, want := range map[string]string{"GH100": "NV_GPU_DRIVER_GH100_545.00", "GB100": "NV_GPU_CC_DRIVER_GB102_545.00"} {
			if got := r.DriverRIMID(model); got != want {
				t.Error(got)
			}
		}
		r.ChipInfo = ""
		if got := r.DriverRIMID("GB100"); got != "NV_GPU_CC_DRIVER_GB100_545.00" {
			t.Error(got)
		}
		x := nvswitch(PDI{1}, PDI{2}).set(FieldFWID, forgedFWID)
		s, err := ParseReport(x.set(FieldGPUPDIs, x.fields[2].Value[:64]).sign(t, f.keys[0]))
		if err != nil || !bytes.Equal(s.FWID, forgedFWID) || s.GPUPDIs[0] != (PDI{2}) || s.DriverRIMID("LS_10") != "" || s.VBIOSRIMID() != "NV_SWITCH_BIOS_5612_0002_890_9610550001" {
			t.Errorf("%+v, %v", s, err)
		}
	})
	t.Run("unknown field is listed", func(t *testing.T) {
		r, err := ParseReport(field(77, 1, 2))
		if err != nil || !slices.Equal(r.Unknown, []uint16{77}) || !bytes.Equal(r.Field(77), []byte{1, 2}) {
			t.Errorf("%v, %v", r, err)
		}
	})
	t.Run("every prefix", func(t *testing.T) {
		for i := range good {
			if _, err := ParseReport(good[:i]); err == nil {
				t.Fatalf("accepted %d of %d bytes", i, len(good))
			}
		}
	})
}

func TestChainNegatives(t *testing.T) {
	other := newForge(t, layout{})
	impostor := func(at int) func(int, *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
		return func(i int, issuer *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
			if i != at {
				return nil, nil
			}
			c := *issuer // everything right but the key
			c.PublicKey = &other.keys[at+1].PublicKey
			return &c, other.keys[at+1]
		}
	}
	for name, x := range map[string]struct {
		l   layout
		why string
	}{
		"four certificates":                 {layout{n: 4}, "4 certificates, want 5"},
		"six certificates":                  {layout{n: 6}, "more than 5 certificates"},
		"leaf by another authority":         {layout{signer: impostor(0)}, "signature does not verify"},
		"intermediate by another authority": {layout{signer: impostor(2)}, "signature does not verify"},
		"issuer's name": {layout{signer: func(i int, _ *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
			if i == 1 {
				return other.certs[4], other.keys[4]
			}
			return nil, nil
		}}, "was issued by"},
		"issuer's key id": {layout{signer: func(i int, issuer *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
			if i != 1 {
				return nil, nil
			}
			c := *issuer
			c.SubjectKeyId, c.PublicKey = []byte("another"), &other.keys[2].PublicKey
			return &c, other.keys[2]
		}}, "names another key"},
		"intermediate that is no authority": {layout{change: func(i int, c *x509.Certificate) { c.IsCA = c.IsCA && i != 2 }}, "is not a certificate authority"},
		"intermediate that may not sign certificates": {layout{change: func(i int, c *x509.Certificate) {
			if i == 2 {
				c.KeyUsage = x509.KeyUsageCRLSign
			}
		}}, "is not a certificate authority"},
		"path length 0": {layout{change: func(i int, c *x509.Certificate) {
			if i == 2 {
				c.MaxPathLenZero = true
			}
		}}, "allows 0 intermediates"},
		"intermediate without basic constraints": {layout{change: func(i int, c *x509.Certificate) {
			if i == 2 {
				c.IsCA, c.BasicConstraintsValid = false, false
			}
		}}, "is not a certificate authority"},
		"path length": {layout{change: func(i int, c *x509.Certificate) {
			if i == 3 {
				c.MaxPathLen = 1
			}
		}}, "allows 1 intermediates"},
		"leaf that is an authority": {layout{change: func(i int, c *x509.Certificate) { c.IsCA = c.IsCA || i == 0 }}, "not one for signatures"},
		"leaf that may not sign": {layout{change: func(i int, c *x509.Certificate) {
			if i == 0 {
				c.KeyUsage = x509.KeyUsageKeyAgreement
			}
		}}, "not one for signatures"},
		"leaf on P-256": {layout{curve: elliptic.P256()}, "not an ECDSA P-384 key"},
		"SHA-256": {layout{change: func(i int, c *x509.Certificate) {
			if i == 2 {
				c.SignatureAlgorithm = x509.ECDSAWithSHA256
			}
		}}, "want ECDSA-SHA384"},
		"unknown critical extension": {layout{change: func(i int, c *x509.Certificate) {
			if i == 2 {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			}
		}}, "unknown critical extension"},
		"no DICE extension": {layout{dice: func([]byte) []pkix.Extension { return nil }}, "no DICE extension"},
		"two DICE extensions": {layout{dice: func(spki []byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDCompositeDeviceID, Value: compositeDER(1, spki, forgedFWID)}, {Id: OIDTcbInfo, Value: tcbInfoDER(nil, forgedFWID)}}
		}}, "two DICE extensions"},
		"CompositeDeviceID of another device": {layout{dice: func(spki []byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDCompositeDeviceID, Value: compositeDER(1, other.certs[1].RawSubjectPublicKeyInfo, forgedFWID)}}
		}}, "another device key"},
		"CompositeDeviceID version 2": {layout{dice: func(spki []byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDCompositeDeviceID, Value: compositeDER(2, spki, forgedFWID)}}
		}}, "version 2"},
		"CompositeDeviceID with a tail": {layout{dice: func(spki []byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDCompositeDeviceID, Value: append(compositeDER(1, spki, forgedFWID), 0)}}
		}}, "not a CompositeDeviceID"},
		"CompositeDeviceID with a short id": {layout{dice: func(spki []byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDCompositeDeviceID, Value: compositeDER(1, spki, forgedFWID[1:])}}
		}}, "without one SHA-384 firmware id"},
		"TcbInfo without ids": {layout{dice: func([]byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDTcbInfo, Value: tcbInfoDER(nil)}}
		}}, "without a SHA-384 firmware id"},
		"TcbInfo with a short second id": {layout{dice: func([]byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDTcbInfo, Value: tcbInfoDER(nil, forgedFWID, forgedFWID[1:])}}
		}}, "malformed firmware id"},
		"TcbInfo with bad flags":   {layout{tcbInfo: true, flags: []byte{8, 0}}, "flags of DiceTcbInfo"},
		"TcbInfo with empty flags": {layout{tcbInfo: true, flags: []byte{}}, "flags of DiceTcbInfo"},
		"TcbInfo with long flags":  {layout{tcbInfo: true, flags: make([]byte, 6)}, "flags of DiceTcbInfo"},
		"TcbInfo with half a flag": {layout{tcbInfo: true, flags: []byte{1}}, "flags of DiceTcbInfo"},
		"TcbInfo with a tail": {layout{dice: func([]byte) []pkix.Extension {
			return []pkix.Extension{{Id: OIDTcbInfo, Value: append(tcbInfoDER(nil, forgedFWID), 0)}}
		}}, "not a DiceTcbInfo"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge(t, x.l)
			onlyFails(t, f.verifier().Verify(f.evidence(gpu()), Options{Nonce: forgedNonce, Time: at}), CheckChain, x.why)
		})
	}

	f := newForge(t, layout{})
	good := f.evidence(gpu())
	der := []byte{}
	for _, c := range f.certs {
		der = append(der, c.Raw...)
	}
	if res := f.verifier().Verify(Evidence{Report: good.Report, Chain: der}, Options{Nonce: forgedNonce, Time: at}); res.check(t, CheckSignature).Status != check.Pass {
		t.Errorf("a DER chain is refused: %+v", res.Checks)
	}
	swapped := bytes.Clone(der)
	copy(swapped, f.certs[1].Raw)
	copy(swapped[len(f.certs[1].Raw):], f.certs[0].Raw)
	for name, x := range map[string]struct {
		chain []byte
		why   string
	}{
		"empty":               {nil, "0 certificates"},
		"too large":           {make([]byte, MaxChainSize+1), "the most is"},
		"text before":         {append([]byte("x\n"), good.Chain...), "does not begin with"},
		"text between":        {bytes.Replace(good.Chain, []byte("-----END CERTIFICATE-----\n"), []byte("-----END CERTIFICATE-----\nx\n"), 1), "does not begin with"},
		"text after":          {append(bytes.Clone(good.Chain), "x"...), "does not begin with"},
		"PEM of another type": {bytes.Replace(good.Chain, []byte("END CERTIFICATE"), []byte("END PRIVATE KEY"), 1), "not well-formed PEM"},
		"PEM with a header":   {bytes.Replace(good.Chain, []byte("-----\n"), []byte("-----\nProc-Type: 4,ENCRYPTED\n\n"), 1), "not well-formed PEM"},
		"another block":       {bytes.Replace(good.Chain, []byte("CERTIFICATE"), []byte("PRIVATE KEY"), 2), "does not begin with"},
		"a broken block":      {bytes.Replace(good.Chain, []byte("MII"), []byte("!II"), 1), "not well-formed PEM"},
		"truncated DER":       {der[:len(der)-1], "is truncated"},
		"order":               {swapped, "is not a certificate authority"},
		"trailing DER":        {append(bytes.Clone(der), 0x30, 0), "more than 5"},
		"not certificate":     {[]byte{0x30, 0}, "certificate 0"},
	} {
		t.Run(name, func(t *testing.T) {
			onlyFails(t, f.verifier().Verify(Evidence{Report: good.Report, Chain: x.chain}, Options{Nonce: forgedNonce, Time: at}), CheckChain, x.why)
		})
	}
	t.Run("root not pinned", func(t *testing.T) {
		onlyFails(t, other.verifier().Verify(good, Options{Nonce: forgedNonce, Time: at}), CheckChain, "not among the pinned")
		onlyFails(t, newVerifier(t).Verify(good, Options{Nonce: forgedNonce, Time: at}), CheckChain, "not among the pinned")
	})
	t.Run("no roots", func(t *testing.T) {
		if _, err := NewVerifier(Config{}); err == nil {
			t.Error("a verifier without roots")
		}
		if _, err := NewVerifier(Config{DeviceRoots: f.roots(), CacheSize: 1 << 20}); err == nil {
			t.Error("a verifier with an enormous cache")
		}
	})
	t.Run("time", func(t *testing.T) {
		for _, tm := range []time.Time{{}, at.AddDate(-2, 0, 0), at.AddDate(2, 0, 0)} {
			res := f.verifier().Verify(good, Options{Nonce: forgedNonce, Time: tm})
			wantStatus(t, res, map[string]check.Status{CheckValidity: check.Fail})
		}
		// One certificate is enough, whichever.
		for i := range ChainLength {
			for name, change := range map[string]func(*x509.Certificate){"expired": func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Second) }, "not yet valid": func(c *x509.Certificate) { c.NotBefore = at.Add(time.Second) }} {
				f := newForge(t, layout{change: func(n int, c *x509.Certificate) {
					if n == i {
						change(c)
					}
				}})
				if c := f.verifier().Verify(f.evidence(gpu()), Options{Nonce: forgedNonce, Time: at}).check(t, CheckValidity); c.Status != check.Fail {
					t.Errorf("certificate %d %s: %+v", i, name, c)
				}
			}
		}
	})
	t.Run("form of signatures", func(t *testing.T) {
		c := f.certs[0]
		if err := verifyDER(f.certs[1], c.RawTBSCertificate, c.Signature); err != nil {
			t.Fatal(err)
		}
		for name, b := range spoiled(t, c.Signature) {
			if verifyDER(f.certs[1], c.RawTBSCertificate, b) == nil {
				t.Errorf("with element %s", name)
			}
		}
		if verifyDER(f.certs[1], c.RawTBSCertificate, append(bytes.Clone(c.Signature), 0)) == nil {
			t.Error("with a byte behind it")
		}
		for _, n := range []int{0, 47, 95, 97} {
			if verifyRaw(&f.keys[0].PublicKey, nil, make([]byte, n)) == nil {
				t.Errorf("of %d bytes", n)
			}
		}
	})
	t.Run("ids and versions", func(t *testing.T) {
		for serial, want := range map[string]PDI{"410102030405060708": {1, 2, 3, 4, 5, 6, 7, 8}, "41010203040506070": {}, "4101020304050607": {}, "41010203040506070809": {}, "4101020304050607zz": {}} {
			if got := devicePDI(serial); got != want {
				t.Errorf("%s: %s", serial, got)
			}
		}
		for version, want := range map[string]bool{"96.00.5E.00.01": true, "96.00.5E.00": false, "96.00.5E.00.01.02": false, "96.00.5E.00.0102": false, "96.00.5E.00.0x": false, "550.144.03": false} {
			if got := (&RIM{Version: version}).VBIOS(); got != want {
				t.Errorf("%s: VBIOS %v", version, got)
			}
		}
		for size, ok := range map[int]bool{-1: false, 0: true, 1: true, 1 << 16: true, 1<<16 + 1: false} {
			if _, err := NewVerifier(Config{DeviceRoots: f.roots(), CacheSize: size}); (err == nil) != ok {
				t.Errorf("cache of %d: %v", size, err)
			}
		}
	})
}

// A DICE extension with one element more or less than the specification has is refused, but for what is optional.
func TestDICEStructure(t *testing.T) {
	f := newForge(t, layout{})
	accepted := func(der []byte, parse func([]byte) error) (names []string) {
		t.Helper()
		if err := parse(der); err != nil {
			t.Fatal(err)
		}
		for name, b := range spoiled(t, der) {
			if parse(b) == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	composite := func(b []byte) error { _, err := compositeDeviceID(b, f.certs[1]); return err }
	if got := accepted(compositeDER(1, f.certs[1].RawSubjectPublicKeyInfo, forgedFWID), composite); got != nil {
		t.Errorf("CompositeDeviceID: %q", got)
	}
	info := func(b []byte) error { _, _, err := tcbInfo(b); return err }
	// vendor, svn, one of two firmware ids, flags
	if got, want := accepted(tcbInfoDER([]byte{7, 0x80}, forgedFWID, forgedFWID), info), []string{"0", "1", "2.0", "2.1", "3"}; !slices.Equal(got, want) {
		t.Errorf("TcbInfo: %q, want %q", got, want)
	}
}

func TestReportNegatives(t *testing.T) {
	f := newForge(t, layout{})
	o := Options{Nonce: forgedNonce, Time: at}
	t.Run("nonce", func(t *testing.T) {
		o := o
		o.Nonce = make([]byte, NonceSize)
		onlyFails(t, f.verifier().Verify(f.evidence(gpu()), o), CheckNonce, "another request")
		o.Nonce = forgedNonce[:31]
		onlyFails(t, f.verifier().Verify(f.evidence(gpu()), o), CheckNonce, "another request")
		o.Nonce = []byte{}
		onlyFails(t, f.verifier().Verify(f.evidence(gpu()), o), CheckNonce, "another request")
		// The device's own nonce is not the verifier's.
		x := gpu()
		o.Nonce = x.respNonce[:]
		onlyFails(t, f.verifier().Verify(f.evidence(x), o), CheckNonce, "another request")
	})
	t.Run("firmware id", func(t *testing.T) {
		onlyFails(t, f.verifier().Verify(f.evidence(gpu().set(FieldFWID, make([]byte, DigestSize))), o), CheckFWID, "not the firmware")
	})
	t.Run("signature", func(t *testing.T) {
		e := f.evidence(gpu())
		for _, i := range []int{NonceOffset + 31, 60, len(e.Report) - SignatureSize - 1, len(e.Report) - 1, len(e.Report) - SignatureSize} {
			b := bytes.Clone(e.Report)
			b[i] ^= 1
			res := f.verifier().Verify(Evidence{Report: b, Chain: e.Chain}, Options{Time: at})
			if res.check(t, CheckParse).Status == check.Pass && res.check(t, CheckSignature).Status != check.Fail {
				t.Errorf("byte %d changed unseen", i)
			}
		}
		zero := append(bytes.Clone(e.Report[:len(e.Report)-SignatureSize]), make([]byte, SignatureSize)...)
		onlyFails(t, f.verifier().Verify(Evidence{Report: zero, Chain: e.Chain}, o), CheckSignature, "does not verify")
		wrong := Evidence{Report: gpu().sign(t, f.keys[1]), Chain: e.Chain} // by the identity key
		onlyFails(t, f.verifier().Verify(wrong, o), CheckSignature, "does not verify")
	})
	t.Run("model", func(t *testing.T) {
		for _, x := range []struct {
			l   layout
			x   *transcript
			why string
		}{
			{layout{model: "LS_10"}, gpu(), "different kinds"},
			{layout{}, nvswitch(PDI{1, 2, 3, 4, 5, 6, 7, 8}), "different kinds"},
			{layout{model: "AD102"}, gpu(), "neither a Hopper"},
			{layout{model: "GB100"}, gpu().set(FieldChipInfo, []byte("GB102\x00")), "names the chip GB102"},
			{layout{model: "LS_10", serial: "500102030405060708"}, nvswitch(PDI{9, 2, 3, 4, 5, 6, 7, 8}), "is of switch"},
		} {
			f := newForge(t, x.l)
			res := f.verifier().Verify(f.evidence(x.x), o)
			if c := res.check(t, CheckModel); c.Status != check.Fail || !strings.Contains(c.Detail, x.why) {
				t.Errorf("%v: %+v", x.why, c)
			}
		}
	})
	t.Run("lock", func(t *testing.T) {
		f := newForge(t, layout{model: "LS_10", serial: "500102030405060708"})
		locked := func() *transcript { return nvswitch(PDI{1, 2, 3, 4, 5, 6, 7, 8}) }
		verify := func(x *transcript) *Result { return f.verifier().Verify(f.evidence(x), o) }
		wantStatus(t, verify(locked()), map[string]check.Status{CheckLock: check.Pass})
		onlyFails(t, verify(locked().set(FieldLockStatus, []byte{0, 0})), CheckLock, "can still configure")
		wantStatus(t, verify(locked().set(FieldLockStatus, nil)), map[string]check.Status{CheckLock: check.Skip})
	})
	t.Run("debug", func(t *testing.T) {
		for bit, name := range map[int]string{1: "not secure", 2: "recovery", 3: "debug"} {
			f := newForge(t, layout{tcbInfo: true, flags: []byte{0, 0x80 >> bit, 0, 0, 1}})
			t.Run(name, func(t *testing.T) {
				onlyFails(t, f.verifier().Verify(f.evidence(gpu()), o), CheckDebug, "debug, recovery or insecure")
			})
		}
	})
}

func TestMeasurementRules(t *testing.T) {
	f := newForge(t, layout{})
	driver, vbios := f.goldenRIMs()
	verify := func(x *transcript, rims ...*RIM) *Result {
		return f.verifier().Verify(f.evidence(x), Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: rims}})
	}
	parse := func(m manifest) *RIM {
		r, err := ParseRIM(f.rim(m))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	hexOf := func(i int) []string { return []string{hex.EncodeToString(forgedMeasurement(i))} }
	t.Run("35 counts when NVDEC0 is enabled", func(t *testing.T) {
		onlyFails(t, verify(gpu().set(FieldNVDEC0, []byte{0xAA}), driver, vbios), CheckMeasurements, "driver measurement 35")
	})
	t.Run("35 counts when the report does not say", func(t *testing.T) {
		onlyFails(t, verify(gpu().set(FieldNVDEC0, nil), driver, vbios), CheckMeasurements, "driver measurement 35")
	})
	t.Run("index in both", func(t *testing.T) {
		both := parse(manifest{version: "96.00.5E.00.01", golden: map[int][]string{7: hexOf(7)}})
		onlyFails(t, verify(gpu(), driver, both), CheckMeasurements, "measurement 7 is active in the driver RIM and in the vbios RIM")
	})
	t.Run("off by one", func(t *testing.T) {
		shifted := parse(manifest{golden: map[int][]string{7: hexOf(8)}})
		res := verify(gpu(), shifted, vbios)
		onlyFails(t, res, CheckMeasurements, "driver measurement 7")
		want := []Mismatch{{Index: 7, Source: "driver", Name: "Measurement_7", Want: hexOf(8), Got: hexOf(7)[0]}}
		if fmt.Sprint(res.Mismatches) != fmt.Sprint(want) {
			t.Errorf("%+v", res.Mismatches)
		}
	})
	t.Run("block missing", func(t *testing.T) {
		x := gpu()
		x.blocks = slices.Delete(x.blocks, 7, 8)
		onlyFails(t, verify(x, driver, vbios), CheckMeasurements, "driver measurement 7")
	})
	t.Run("every mismatch is listed", func(t *testing.T) {
		x := gpu()
		for i := range x.blocks {
			x.blocks[i] = block(byte(i+1), make([]byte, DigestSize-1))
		}
		if res := verify(x, driver, vbios); len(res.Mismatches) != 5 {
			t.Errorf("%d mismatches, want 5", len(res.Mismatches))
		}
	})
	t.Run("VBIOS manifest only", func(t *testing.T) {
		wantStatus(t, verify(gpu(), vbios), map[string]check.Status{CheckMeasurements: check.Skip, CheckDriverRIMVersion: check.Skip})
	})
	t.Run("driver manifest only", func(t *testing.T) {
		wantStatus(t, verify(gpu(), driver), map[string]check.Status{CheckMeasurements: check.Skip, CheckVBIOSRIMVersion: check.Skip})
	})
	t.Run("manifest for another product", func(t *testing.T) {
		wantStatus(t, verify(gpu(), vbios, parse(manifest{product: "GB100", golden: map[int][]string{7: hexOf(7)}})), map[string]check.Status{CheckDriverRIMVersion: check.Skip, CheckMeasurements: check.Skip})
	})
	t.Run("manifest of another version", func(t *testing.T) {
		onlyFails(t, verify(gpu(), vbios, parse(manifest{version: "545.01", golden: map[int][]string{7: hexOf(7)}})), CheckDriverRIMVersion, "other versions")
	})
	t.Run("an authentic manifest is preferred", func(t *testing.T) {
		bad := parse(manifest{golden: map[int][]string{7: hexOf(7)}, key: f.keys[1]})
		if bad.sigErr == nil {
			t.Fatal("a manifest by another key verifies")
		}
		wantStatus(t, verify(gpu(), bad, driver, vbios), map[string]check.Status{CheckMeasurements: check.Pass, CheckDriverRIMSignature: check.Pass})
		onlyFails(t, verify(gpu(), bad, vbios), CheckDriverRIMSignature, "does not verify")
	})
	t.Run("a manifest signed anew is preferred", func(t *testing.T) {
		old := *f.certs[0]
		old.NotAfter = at.Add(-time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &old, f.certs[1], old.PublicKey, f.keys[1])
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		expired := parse(manifest{golden: map[int][]string{7: hexOf(7)}, certs: append([]*x509.Certificate{cert}, f.certs[1:]...)})
		for _, rims := range [][]*RIM{{expired, driver, vbios}, {driver, expired, vbios}} {
			wantStatus(t, verify(gpu(), rims...), map[string]check.Status{CheckMeasurements: check.Pass, CheckDriverRIMValidity: check.Pass})
		}
		bad := parse(manifest{golden: map[int][]string{7: hexOf(7)}, key: f.keys[1]})
		onlyFails(t, verify(gpu(), bad, expired, vbios), CheckDriverRIMValidity, "not valid at the appraisal time")
	})
	t.Run("manifest under another root", func(t *testing.T) {
		o := newForge(t, layout{})
		other, _ := o.goldenRIMs()
		onlyFails(t, verify(gpu(), other, vbios), CheckDriverRIMChain, "not among the pinned")
	})
	t.Run("manifest with a broken chain", func(t *testing.T) {
		r := parse(manifest{golden: map[int][]string{7: hexOf(7)}, certs: slices.Delete(slices.Clone(f.certs), 2, 3)})
		onlyFails(t, verify(gpu(), r, vbios), CheckDriverRIMChain, "was issued by")
	})
	t.Run("report with a bad signature is not compared", func(t *testing.T) {
		e := Evidence{Report: gpu().sign(t, f.keys[1]), Chain: f.pem()}
		res := f.verifier().Verify(e, Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{driver, vbios}}})
		wantStatus(t, res, map[string]check.Status{CheckSignature: check.Fail, CheckMeasurements: check.Skip})
	})
	t.Run("a manifest with a whole chain is preferred", func(t *testing.T) {
		o := newForge(t, layout{})
		other, _ := o.goldenRIMs()
		broken := parse(manifest{golden: map[int][]string{7: hexOf(7)}, certs: slices.Delete(slices.Clone(f.certs), 2, 3)})
		wantStatus(t, verify(gpu(), other, broken, driver, vbios), map[string]check.Status{CheckMeasurements: check.Pass, CheckDriverRIMChain: check.Pass})
	})
	// Whatever fails, no check is left out of the list.
	t.Run("every check is listed", func(t *testing.T) {
		expired := parse(manifest{golden: map[int][]string{7: hexOf(7)}, certs: slices.Delete(slices.Clone(f.certs), 2, 3)})
		switches := newForge(t, layout{model: "LS_10", serial: "500102030405060708"})
		id := PDI{1, 2, 3, 4, 5, 6, 7, 8}
		ids := func(res *Result) []string {
			var ids []string
			for _, c := range res.Checks {
				if c.Status != check.Pass && c.Detail == "" {
					t.Errorf("%s does not say why", c.ID)
				}
				if c.ID != CheckLock { // of a switch whose chain is in order
					ids = append(ids, c.ID)
				}
			}
			slices.Sort(ids)
			return ids
		}
		o := Options{Nonce: forgedNonce, Time: at}
		want := ids(verify(gpu(), driver, vbios))
		for name, res := range map[string]*Result{
			"no manifests": verify(gpu()), "no VBIOS": verify(gpu(), driver), "broken manifest": verify(gpu(), expired, vbios), "other version": verify(gpu(), vbios, parse(manifest{version: "545.01", golden: map[int][]string{7: hexOf(7)}})),
			"chain": f.verifier().Verify(Evidence{Report: gpu().sign(t, f.keys[0])}, o), "signature": f.verifier().Verify(Evidence{Report: gpu().sign(t, f.keys[1]), Chain: f.pem()}, o),
		} {
			if got := ids(res); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if len(want) != 20 {
			t.Errorf("%d checks of a GPU", len(want))
		}
		want = ids(switches.verifier().Verify(switches.evidence(nvswitch(id)), o))
		if got := ids(f.verifier().Verify(Evidence{Report: nvswitch(id).sign(t, f.keys[0])}, o)); !slices.Equal(got, want) || len(got) != 15 {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("nil manifest", func(t *testing.T) {
		wantStatus(t, verify(gpu(), nil), map[string]check.Status{CheckMeasurements: check.Skip})
	})
}

func TestManifestForgeries(t *testing.T) {
	f := newForge(t, layout{})
	golden := map[int][]string{7: {hex.EncodeToString(forgedMeasurement(7))}}
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("%q is not in the document", old)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	resource := func(attrs string) string { return `<ns0:Resource ` + attrs + `></ns0:Resource>` }
	zeros := strings.Repeat("00", DigestSize)
	for name, x := range map[string]struct {
		m   manifest
		why string // of a parse error; otherwise the signature must fail
	}{
		"value changed":      {manifest{golden: golden, signed: replace(`index="7"`, `index="8"`)}, ""},
		"version changed":    {manifest{golden: golden, signed: replace(`"545.00"`, `"546.00"`)}, ""},
		"element added":      {manifest{golden: golden, signed: replace(`<ns0:Payload>`, `<ns0:Payload>`+resource(`active="True" alternatives="1" index="9" name="" ns2:Hash0="`+zeros+`" size="48" type="Measurement"`))}, ""},
		"signed by another":  {manifest{golden: golden, key: f.keys[2]}, ""},
		"C14N of SignedInfo": {manifest{golden: golden, signed: replace(`<ds:SignedInfo>`, `<ds:SignedInfo >`)}, "ok"}, // canonical form is the same
		"no signature": {manifest{golden: golden, signed: func(s string) string {
			i, j := strings.Index(s, "<ds:Signature "), strings.Index(s, "</ds:Signature>")
			return s[:i] + s[j+len("</ds:Signature>"):]
		}}, "no signature"},
		"two signatures": {manifest{golden: golden, signed: func(s string) string {
			i, j := strings.Index(s, "<ds:Signature "), strings.Index(s, "</ds:Signature>")
			return s[:i] + s[i:j] + "</ds:Signature>" + s[i:]
		}}, "more than one signature"},
		"wrapped document": {manifest{golden: golden, signed: func(s string) string {
			return `<SoftwareIdentity xmlns="` + SWIDNamespace + `">` + s + `</SoftwareIdentity>`
		}}, "no signature"},
		"other namespace":     {manifest{golden: golden, signed: replace(DSigNamespace, "urn:x")}, "not an XML signature"},
		"another transform":   {manifest{golden: golden, info: replace(AlgorithmEnveloped, "http://www.w3.org/TR/1999/REC-xslt-19991116")}, "other algorithms"},
		"one transform":       {manifest{golden: golden, info: replace(`<ds:Transform Algorithm="`+AlgorithmC14N11+`"></ds:Transform>`, "")}, `"DigestMethod" or its attributes`},
		"SHA-256":             {manifest{golden: golden, info: replace(AlgorithmSHA384, "http://www.w3.org/2001/04/xmlenc#sha256")}, "other algorithms"},
		"HMAC":                {manifest{golden: golden, info: replace(AlgorithmECDSASHA384, "http://www.w3.org/2000/09/xmldsig#hmac-sha1")}, "other algorithms"},
		"exclusive C14N":      {manifest{golden: golden, info: replace(AlgorithmC14N11, "http://www.w3.org/2001/10/xml-exc-c14n#")}, "other algorithms"},
		"reference to a part": {manifest{golden: golden, info: replace(`URI=""`, `URI="#x"`)}, "refers to"},
		"reference by id":     {manifest{golden: golden, info: replace(` URI=""`, ` Id=""`)}, `"Reference" or its attributes`},
		"digest value too deep": {manifest{golden: golden, info: func(s string) string {
			return strings.Replace(strings.Replace(s, `></ds:DigestMethod>`, `>`, 1), `</ds:DigestValue>`, `</ds:DigestValue></ds:DigestMethod>`, 1)
		}}, `"DigestValue" or its attributes`},
		"reference without URI": {manifest{golden: golden, info: replace(` URI=""`, ``)}, `"Reference" or its attributes`},
		"two SignedInfo": {manifest{golden: golden, signed: func(s string) string {
			i, j := strings.Index(s, "<ds:SignedInfo>"), strings.Index(s, "</ds:SignedInfo>")+len("</ds:SignedInfo>")
			return s[:j] + s[i:j] + s[j:]
		}}, "second SignedInfo"},
		"a second SignedInfo in another namespace": {manifest{golden: golden, signed: replace("<ds:SignedInfo>", `<x:SignedInfo xmlns:x="urn:x"></x:SignedInfo><ds:SignedInfo>`)}, `"SignedInfo" or its attributes`},
		"two references": {manifest{golden: golden, info: func(s string) string {
			i, j := strings.Index(s, "<ds:Reference"), strings.Index(s, "</ds:SignedInfo>")
			return s[:j] + s[i:]
		}}, `"Reference" too much`},
		"transforms in another order": {manifest{golden: golden, info: func(s string) string {
			a, b := `<ds:Transform Algorithm="`+AlgorithmEnveloped+`"></ds:Transform>`, `<ds:Transform Algorithm="`+AlgorithmC14N11+`"></ds:Transform>`
			return strings.Replace(s, a+b, b+a, 1)
		}}, "other algorithms"},
		"a transform with a parameter":  {manifest{golden: golden, info: replace(AlgorithmEnveloped+`">`, AlgorithmEnveloped+`"><ds:XPath>self::text()</ds:XPath>`)}, `"XPath" or its attributes`},
		"a method in another namespace": {manifest{golden: golden, info: replace(`<ds:DigestMethod`, `<ds:DigestMethod xmlns:ds="urn:x"`)}, `"DigestMethod" or its attributes`},
		"a reference by type":           {manifest{golden: golden, info: replace(`URI=""`, `Type="urn:x" URI=""`)}, `"Reference" or its attributes`},
		"no SignedInfo": {manifest{golden: golden, signed: func(s string) string {
			i, j := strings.Index(s, "<ds:SignedInfo>"), strings.Index(s, "</ds:SignedInfo>")+len("</ds:SignedInfo>")
			return s[:i] + s[j:]
		}}, "no SignedInfo"},
		"no digest": {manifest{golden: golden, info: func(s string) string {
			i := strings.Index(s, "<ds:DigestValue>")
			j := strings.Index(s, "</ds:Reference>")
			return s[:i] + s[j:]
		}}, "no SignedInfo"},
		"no signature value": {manifest{golden: golden, signed: func(s string) string {
			i := strings.Index(s, "<ds:SignatureValue>")
			j := strings.Index(s, "<ds:KeyInfo>")
			return s[:i] + s[j:]
		}}, "no SignatureValue"},
		"xml:lang":                 {manifest{golden: golden, signed: replace(` tagId=`, ` xml:lang="en" tagId=`)}, "xml namespace"},
		"two signature values":     {manifest{golden: golden, signed: replace("<ds:KeyInfo>", "<ds:SignatureValue>AA==</ds:SignatureValue><ds:KeyInfo>")}, "more than one SignatureValue"},
		"no certificates":          {manifest{golden: golden, certs: []*x509.Certificate{}}, "no certificates"},
		"too many certificates":    {manifest{golden: golden, certs: slices.Concat(f.certs, f.certs)}, "more than 8 certificates"},
		"certificate that is none": {manifest{golden: golden, signed: replace(`<ds:X509Certificate>MII`, `<ds:X509Certificate>AII`)}, "certificate 0"},
		"DOCTYPE":                  {manifest{golden: golden, signed: func(s string) string { return `<!DOCTYPE x [<!ENTITY a "b">]>` + s }}, "DOCTYPE"},
		"processing instruction":   {manifest{golden: golden, signed: func(s string) string { return `<?x y?>` + s }}, "processing instructions"},
		"undefined entity":         {manifest{golden: golden, signed: replace(`name="Measurement_7"`, `name="&a;"`)}, "entity"},
		"deep":                     {manifest{golden: golden, body: func(s string) string { return s + strings.Repeat("<x>", 20) + strings.Repeat("</x>", 20) }}, "nested"},
		"wide":                     {manifest{golden: golden, body: func(s string) string { return s + strings.Repeat("<x></x>", maxRIMElements) }}, "elements"},
		"two Meta":                 {manifest{golden: golden, body: func(s string) string { return s + `<ns0:Meta colloquialVersion="1" product="x"></ns0:Meta>` }}, "2 Meta"},
		"no product":               {manifest{golden: golden, body: replace(`edition="GPU" product="GH100"`, `edition="GPU"`)}, "no colloquialVersion or no product"},
		"no version":               {manifest{golden: golden, body: replace(`colloquialVersion="545.00" `, "")}, "no colloquialVersion"},
		"another root element":     {manifest{golden: golden, body: replace(`xmlns="`+SWIDNamespace+`"`, `xmlns="urn:x"`)}, "SoftwareIdentity"},
		"nothing active":           {manifest{golden: nil}, "no active measurement"},
		"index active twice":       {manifest{resources: strings.Repeat(resource(`active="True" alternatives="1" index="9" name="" size="48" type="Measurement" ns2:Hash0="`+zeros+`"`), 2)}, "active twice"},
		"index too large":          {manifest{resources: resource(`active="True" alternatives="1" index="254" name="" size="48" type="Measurement" ns2:Hash0="` + zeros + `"`)}, "index"},
		"index negative":           {manifest{resources: resource(`active="True" alternatives="1" index="-1" name="" size="48" type="Measurement" ns2:Hash0="` + zeros + `"`)}, "index"},
		"active is neither":        {manifest{resources: resource(`active="true" alternatives="1" index="1" name="" size="48" type="Measurement" ns2:Hash0="` + zeros + `"`)}, "neither active nor inactive"},
		"size":                     {manifest{resources: resource(`active="True" alternatives="1" index="1" name="" size="32" type="Measurement" ns2:Hash0="` + zeros + `"`)}, "size"},
		"no alternatives":          {manifest{resources: resource(`active="True" alternatives="0" index="1" name="" size="48" type="Measurement"`)}, "alternatives"},
		"fewer alternatives":       {manifest{resources: resource(`active="True" alternatives="2" index="1" name="" size="48" type="Measurement" ns2:Hash0="` + zeros + `"`)}, "alternative 1"},
		"hash without namespace":   {manifest{resources: resource(`Hash0="` + zeros + `" active="True" alternatives="1" index="1" name="" size="48" type="Measurement"`)}, "alternative 0"},
		"short hash":               {manifest{resources: resource(`active="True" alternatives="1" index="1" name="" size="48" type="Measurement" ns2:Hash0="00"`)}, "alternative 0"},
		"resource of another type": {manifest{resources: resource(`active="True" type="File"`)}, "want Measurement"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRIM(f.rim(x.m))
			switch x.why {
			case "":
				if err != nil || r.sigErr == nil {
					t.Fatalf("error %v, signature %v", err, r)
				}
			case "ok":
				if err != nil || r.sigErr != nil {
					t.Fatalf("error %v, signature %v", err, r)
				}
			default:
				if err == nil || !strings.Contains(err.Error(), x.why) {
					t.Fatalf("%v, want %q", err, x.why)
				}
			}
		})
	}
	whole := f.rim(manifest{golden: map[int][]string{253: golden[7], 7: golden[7]}})
	for over := range 2 {
		r, err := ParseRIM(append(whole[:len(whole):len(whole)], bytes.Repeat([]byte{' '}, MaxRIMSize+over-len(whole))...))
		if (err == nil) != (over == 0) {
			t.Errorf("a manifest of %d bytes: %v", MaxRIMSize+over, err)
		}
		if err == nil && (r.TagID != "mock" || r.Edition != "GPU" || len(r.Golden) != 2 || r.Golden[0].Index != 7 || r.Golden[1].Index != 253) {
			t.Errorf("%+v", r)
		}
	}
	if _, err := ParseRIM(nil); err == nil {
		t.Error("an empty manifest")
	}
}
