package dcap

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTCBInfoRefuses(t *testing.T) {
	good, err := json.Marshal(newWorld(4).tcbInfo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSignedTCBInfo(good, [64]byte{}); err != nil {
		t.Fatal(err)
	}
	w := func(bend func(m map[string]any)) string {
		m := newWorld(4).tcbInfo
		bend(m)
		b, _ := json.Marshal(m)
		return string(b)
	}
	set := func(k string, v any) string { return w(func(m map[string]any) { m[k] = v }) }
	without := func(k string) string { return w(func(m map[string]any) { delete(m, k) }) }
	replace := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	sgx := func(k string, v any) string {
		m := newWorld(3).tcbInfo
		m[k] = v
		b, _ := json.Marshal(m)
		return string(b)
	}
	levels := func(ls ...any) string { return set("tcbLevels", ls) }
	cases := map[string]string{
		"empty":                  "",
		"null":                   "null",
		"array":                  "[]",
		"truncated":              string(good[:len(good)-1]),
		"behind":                 string(good) + "x",
		"version 2":              set("version", 2),
		"version 4":              set("version", 4),
		"version as text":        set("version", "3"),
		"version as fraction":    replace(`"version":3`, `"version":3.0`),
		"version as exponent":    replace(`"version":3`, `"version":3e0`),
		"version negative":       set("version", -3),
		"version padded":         replace(`"version":3`, `"version":03`),
		"TCB type 1":             set("tcbType", 1),
		"id":                     set("id", "TDY"),
		"unknown member":         set("more", 1),
		"member in capitals":     replace(`"fmspc"`, `"FMSPC"`),
		"member twice":           replace(`"tcbType":0`, `"tcbType":0,"tcbType":0`),
		"issue date":             set("issueDate", "2026-05-20"),
		"issue date elsewhere":   set("issueDate", "2026-05-20T00:00:00+02:00"),
		"issue date to the ms":   set("issueDate", "2026-05-20T00:00:00.5Z"),
		"issue date short":       set("issueDate", "2026-05-20T1:00:00Z"),
		"update before issue":    set("nextUpdate", "2026-05-20T00:00:00Z"),
		"short FMSPC":            set("fmspc", "90C06F0000"),
		"FMSPC not hexadecimal":  set("fmspc", "90C06F00000G"),
		"PCEID":                  set("pceId", ""),
		"no levels":              set("tcbLevels", []any{}),
		"level twice":            levels(level(5, 5, 13, "UpToDate", date1), level(5, 5, 13, "OutOfDate", date2)),
		"unknown status":         levels(level(5, 5, 13, "Fine", date1)),
		"status in capitals":     levels(level(5, 5, 13, "uptodate", date1)),
		"converged status":       levels(level(5, 5, 13, "NotSupported", date1)),
		"SVN 256":                levels(level(256, 5, 13, "UpToDate", date1)),
		"PCESVN 65536":           levels(level(5, 5, 65536, "UpToDate", date1)),
		"level without date":     levels(map[string]any{"tcb": level(5, 5, 13, "UpToDate", date1)["tcb"], "tcbStatus": "UpToDate"}),
		"TDX without module":     without("tdxModule"),
		"TDX without components": levels(level(5, -1, 13, "UpToDate", date1)),
		"SGX with components":    sgx("tcbLevels", []any{level(5, 5, 13, "UpToDate", date1)}),
		"SGX with module":        sgx("tdxModule", newWorld(4).tcbInfo["tdxModule"]),
		"SGX with identities":    sgx("tdxModuleIdentities", newWorld(4).tcbInfo["tdxModuleIdentities"]),
		"no module identities":   set("tdxModuleIdentities", []any{}),
		"module identity twice":  set("tdxModuleIdentities", []any{moduleIdentity("TDX_01", isvLevel(1, "UpToDate", date1)), moduleIdentity("TDX_01", isvLevel(2, "UpToDate", date1))}),
		"module identity":        set("tdxModuleIdentities", []any{moduleIdentity("TDX_1", isvLevel(1, "UpToDate", date1))}),
		"tiny module identity":   set("tdxModuleIdentities", []any{moduleIdentity("T", isvLevel(1, "UpToDate", date1))}),
		"id of no TEE":           sgx("id", "TDY"),
		"long module identity":   set("tdxModuleIdentities", []any{moduleIdentity("TDX_010", isvLevel(1, "UpToDate", date1))}),
		"other module identity":  set("tdxModuleIdentities", []any{moduleIdentity("SGX_01", isvLevel(1, "UpToDate", date1))}),
		"module not hexadecimal": set("tdxModuleIdentities", []any{moduleIdentity("TDX_0x", isvLevel(1, "UpToDate", date1))}),
		"module without levels":  set("tdxModuleIdentities", []any{moduleIdentity("TDX_01")}),
		"module level twice":     set("tdxModuleIdentities", []any{moduleIdentity("TDX_01", isvLevel(1, "UpToDate", date1), isvLevel(1, "Revoked", date1))}),
		"module of other status": set("tdxModuleIdentities", []any{moduleIdentity("TDX_01", isvLevel(1, "ConfigurationNeeded", date1))}),
		"15 components":          replace(`{"category":"BIOS","svn":5},`, ``),
		"17 components":          replace(`{"category":"BIOS","svn":5},`, `{"category":"BIOS","svn":5},{"category":"BIOS","svn":5},`),
		"advisories as text":     replace(`"advisoryIDs":["INTEL-SA-00002"]`, `"advisoryIDs":"INTEL-SA-00002"`),
		"advisory unterminated":  string(good[:strings.Index(string(good), "INTEL-SA")+3]),
		"control character":      replace(`INTEL-SA-00002`, "INTEL\x01"),
		"broken escape":          replace(`INTEL-SA-00002`, `INTEL\u12`),
		"not UTF-8":              replace(`INTEL-SA-00002`, "INTEL\xff"),
		"not UTF-8 either":       replace(`INTEL-SA-00002`, "INTEL\x80"),
		"missing comma":          replace(`,"version"`, ` "version"`),
		"other comma":            replace(`,"version"`, `;"version"`),
		"other colon":            replace(`"version":`, `"version"=`),
		"other brace":            "[" + string(good[1:]),
		"other quote":            replace(`"version"`, `'version"`),
		"other bracket":          replace(`"advisoryIDs":["INTEL-SA-00002"]`, `"advisoryIDs":{"INTEL-SA-00002"]`),
	}
	for _, k := range []string{"id", "version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbType", "tcbEvaluationDataNumber", "tcbLevels"} {
		cases["without "+k] = without(k)
	}
	for name, s := range cases {
		if _, err := ParseSignedTCBInfo([]byte(s), [64]byte{}); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	for n, ok := range map[int]bool{maxCollateral: true, maxCollateral + 1: false} {
		if _, err := ParseSignedTCBInfo([]byte(string(good)+strings.Repeat(" ", n-len(good))), [64]byte{}); (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
		signed := fmt.Sprintf(`{"tcbInfo":%s,"signature":"%0128x"}`, good, 0)
		if _, err := ParseTCBInfo([]byte(signed + strings.Repeat(" ", n-len(signed)))); (err == nil) != ok {
			t.Errorf("%d bytes and a signature: %v", n, err)
		}
	}
	many := make([]any, maxLevels+1)
	for i := range many {
		many[i] = level(5, 5, i, "UpToDate", date1)
	}
	if _, err := ParseSignedTCBInfo([]byte(levels(many...)), [64]byte{}); err == nil {
		t.Error("too many levels accepted")
	}
	// What Intel might well do: white space, escapes.
	spaced := strings.Replace(strings.ReplaceAll(string(good), `":`, `" : `), "INTEL-SA-00002", `INTEL\"-SA-0000\u0032`, 1)
	if i, err := ParseSignedTCBInfo([]byte(" "+spaced+"\n"), [64]byte{}); err != nil || i.TDXModuleIdentities[0].TCBLevels[1].AdvisoryIDs[0] != `INTEL"-SA-00002` {
		t.Errorf("%v", err)
	}
}

func TestQEIdentityRefuses(t *testing.T) {
	set := func(k string, v any) string {
		m := newWorld(4).qeIdentity
		m[k] = v
		if v == nil {
			delete(m, k)
		}
		b, _ := json.Marshal(m)
		return string(b)
	}
	cases := map[string]string{
		"version 1":           set("version", 1),
		"QVE":                 set("id", "QVE"),
		"unknown member":      set("more", 1),
		"no levels":           set("tcbLevels", []any{}),
		"configuration":       set("tcbLevels", []any{isvLevel(1, "ConfigurationNeeded", date1)}),
		"ISVSVN 65536":        set("tcbLevels", []any{isvLevel(65536, "UpToDate", date1)}),
		"short mask":          set("attributesMask", zeros(15)),
		"short MRSIGNER":      set("mrsigner", ""),
		"update before issue": set("nextUpdate", "2026-05-19T00:00:00Z"),
	}
	for _, k := range []string{"id", "version", "issueDate", "nextUpdate", "tcbEvaluationDataNumber", "miscselect", "miscselectMask", "attributes", "attributesMask", "mrsigner", "isvprodid", "tcbLevels"} {
		cases["without "+k] = set(k, nil)
	}
	for name, s := range cases {
		if _, err := ParseSignedQEIdentity([]byte(s), [64]byte{}); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if _, err := ParseSignedQEIdentity([]byte(set("isvprodid", 2)), [64]byte{}); err != nil {
		t.Error(err)
	}
}

func TestSignedDocument(t *testing.T) {
	w := newWorld(4)
	good := signJSON(t, w.tcbInfo, "tcbInfo", w.tcbInfoKey)
	i, err := ParseTCBInfo(good)
	if err != nil {
		t.Fatal(err)
	}
	if j, err := ParseTCBInfo(bytes.Replace(good, []byte(`:{`), []byte(": \r\n\t{"), 1)); err != nil || !bytes.Equal(j.Raw, i.Raw) {
		t.Errorf("white space before what is signed: %v", err)
	}
	if !bytes.Contains(good, i.Raw) || i.Raw[0] != '{' || i.Raw[len(i.Raw)-1] != '}' {
		t.Errorf("signed bytes %.20s", i.Raw)
	}
	sig := fmt.Sprintf("%x", i.Signature)
	for name, s := range map[string]string{
		"empty":             "",
		"no signature":      `{"tcbInfo":` + string(i.Raw) + `}`,
		"signature twice":   `{"tcbInfo":` + string(i.Raw) + `,"signature":"` + sig + `","signature":"` + sig + `"}`,
		"body twice":        `{"tcbInfo":` + string(i.Raw) + `,"tcbInfo":` + string(i.Raw) + `,"signature":"` + sig + `"}`,
		"short signature":   `{"tcbInfo":` + string(i.Raw) + `,"signature":"` + sig[2:] + `"}`,
		"other member":      `{"tcbInfo":` + string(i.Raw) + `,"signature":"` + sig + `","x":1}`,
		"other document":    `{"enclaveIdentity":` + string(i.Raw) + `,"signature":"` + sig + `"}`,
		"body as text":      `{"tcbInfo":"x","signature":"` + sig + `"}`,
		"body unterminated": `{"tcbInfo":{"id":`,
		"body closed twice": `{"tcbInfo":}}`,
		"behind":            string(good) + "{}",
	} {
		if _, err := ParseTCBInfo([]byte(s)); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if _, err := ParseTCBInfo([]byte(` {"signature" : "` + strings.ToUpper(sig) + `", "tcbInfo": ` + string(i.Raw) + " }\r\n")); err != nil {
		t.Errorf("white space and order: %v", err)
	}
}

func TestCRLRefuses(t *testing.T) {
	k := testKeys()
	make := func(bend func(*x509.RevocationList)) []byte {
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
		bend(list)
		der, err := x509.CreateRevocationList(rand.Reader, list, &x509.Certificate{Subject: name("x"), SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign, PublicKey: &k.ca.PublicKey}, k.ca)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := make(func(*x509.RevocationList) {})
	if _, err := ParseCRL(good); err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"empty":     nil,
		"text":      []byte("-----BEGIN X509 CRL-----"),
		"truncated": good[:len(good)-1],
		"behind":    append(slices.Clone(good), 0),
		// A list for some certificates only, or for those of others.
		"issuing distribution point": make(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}}}
		}),
		"oversized": bytes.Repeat([]byte{0x30}, maxCollateral+1),
	} {
		if _, err := ParseCRL(der); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func TestPCKRefuses(t *testing.T) {
	tuple := func(oid asn1.ObjectIdentifier, v any) asn1.RawValue {
		m := func(v any) asn1.RawValue {
			b, err := asn1.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return asn1.RawValue{FullBytes: b}
		}
		return m([]asn1.RawValue{m(oid), m(v)})
	}
	oid := func(arcs ...int) asn1.ObjectIdentifier { return append(slices.Clone(oidSGX), arcs...) }
	without := func(i int) func(*sgxExt) {
		return func(e *sgxExt) { e.extra = func(f []asn1.RawValue) []asn1.RawValue { return slices.Delete(f, i, i+1) } }
	}
	for name, bend := range map[string]func(*sgxExt){
		"SVN -128":       func(e *sgxExt) { e.components[3] = -128 },
		"short PPID":     func(e *sgxExt) { e.ppid = e.ppid[1:] },
		"long FMSPC":     func(e *sgxExt) { e.fmspc = append(e.fmspc, 0) },
		"short PCEID":    func(e *sgxExt) { e.pceid = e.pceid[1:] },
		"short CPUSVN":   func(e *sgxExt) { e.cpusvn = e.cpusvn[1:] },
		"short instance": func(e *sgxExt) { e.instance = e.instance[1:] },
		"SVN 256":        func(e *sgxExt) { e.components[3] = 256 },
		"SVN negative":   func(e *sgxExt) { e.components[3] = -1 },
		"PCESVN 65536":   func(e *sgxExt) { e.pcesvn = 65536 },
		"SGX type 3":     func(e *sgxExt) { e.sgxType = 3 },
		"unknown field": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { return append(f, tuple(oid(8), 1)) }
		},
		"foreign field": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { return append(f, tuple(asn1.ObjectIdentifier{1, 2, 3}, 1)) }
		},
		"field 0": func(e *sgxExt) {
			e.configuration = false
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { return append(f, tuple(oid(0), []asn1.RawValue{})) }
		},
		"field of another extension": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue {
				f[0] = tuple(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 2, 1}, e.ppid)
				return f
			}
		},
		"field without a number": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { return append(f, tuple(oidSGX, 1)) }
		},
		"field with two numbers": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { f[0] = tuple(oid(1, 1), e.ppid); return f }
		},
		"more in a field": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue {
				b, err := asn1.Marshal([]any{oid(1), e.ppid, 1})
				if err != nil {
					t.Fatal(err)
				}
				f[0] = asn1.RawValue{FullBytes: b}
				return f
			}
		},
		"no PPID":     without(0),
		"no TCB":      without(1),
		"no PCEID":    without(2),
		"no FMSPC":    without(3),
		"no SGX type": without(4),
		"configuration as number": func(e *sgxExt) {
			e.configuration = false
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { return append(f, tuple(oid(7), 1)) }
		},
		"PPID twice": func(e *sgxExt) { e.extra = func(f []asn1.RawValue) []asn1.RawValue { return append(f, f[0]) } },
		"unknown TCB field": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue {
				f[1] = tuple(oid(2), []asn1.RawValue{tuple(oid(2, 19), 1)})
				return f
			}
		},
		"SGX type as integer": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { f[4] = tuple(oid(5), 1); return f }
		},
		"configuration that is no boolean": func(e *sgxExt) {
			e.configuration = false
			e.extra = func(f []asn1.RawValue) []asn1.RawValue {
				return append(f, tuple(oid(7), []asn1.RawValue{tuple(oid(7, 1), 1)}))
			}
		},
		"empty TCB": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { f[1] = tuple(oid(2), []asn1.RawValue{}); return f }
		},
		"TCB as number": func(e *sgxExt) {
			e.extra = func(f []asn1.RawValue) []asn1.RawValue { f[1] = tuple(oid(2), 5); return f }
		},
		"configuration": func(e *sgxExt) {
			e.configuration = false
			e.extra = func(f []asn1.RawValue) []asn1.RawValue {
				return append(f, tuple(oid(7), []asn1.RawValue{tuple(oid(7, 4), true)}))
			}
		},
	} {
		e := newWorld(4).ext
		bend(&e)
		if _, err := ParsePCK(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSGX, Value: e.der(t)}}}); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	whole := newWorld(4).ext
	for _, der := range [][]byte{{}, {0x30}, {4, 0}, {0x30, 0, 0}, append(whole.der(t), 0)} {
		if _, err := ParsePCK(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSGX, Value: der}}}); err == nil {
			t.Errorf("extension %x accepted", der)
		}
	}
	if _, err := ParsePCK(&x509.Certificate{}); err != errNoSGX {
		t.Errorf("certificate without extension: %v", err)
	}
	e := newWorld(4).ext
	e.components[3], e.components[4] = 255, 128
	e.pcesvn = 65535
	p, err := ParsePCK(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSGX, Value: e.der(t)}}})
	if err != nil || p.TCBComponents[3] != 255 || p.TCBComponents[4] != 128 || p.PCESVN != 65535 {
		t.Errorf("%+v, %v", p, err)
	} else if c := p.Configuration; c == nil || !*c.DynamicPlatform || *c.CachedKeys || !*c.SMTEnabled {
		t.Errorf("%+v", c)
	}
}
