package dcap

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"
)

// smallInput keeps the fuzzer from spending its time on size limits, which have tests of their own.
const smallInput = 20 << 10

func FuzzParseQuote(f *testing.F) {
	var genuine *Verifier
	for _, version := range []uint16{3, 4, 5} {
		v, b, _ := newWorld(version).build(f)
		genuine = v
		f.Add(b)
		f.Add(append(b, 0, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > smallInput {
			return
		}
		q, err := ParseQuote(b)
		if err != nil {
			return
		}
		if !bytes.Equal(append(bytes.Clone(q.Raw), q.Trailing...), b) {
			t.Error("bytes went missing")
		}
		if (q.SGX == nil) == (q.TD == nil) {
			t.Error("one body, please")
		}
		if _, err := genuine.Verify(time.Time{}, q, nil); err == nil {
			t.Error("verified without collateral")
		}
	})
}

// FuzzVerify changes a genuine quote: whatever passes still says what was signed.
func FuzzVerify(f *testing.F) {
	w := newWorld(5)
	v, b, c := w.build(f)
	want, err := ParseQuote(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), byte(1))
	f.Add(uint16(len(b)-1), byte(1))
	f.Fuzz(func(t *testing.T, at uint16, x byte) {
		if int(at) >= len(b) {
			return
		}
		bent := bytes.Clone(b)
		bent[at] ^= x
		q, err := ParseQuote(bent)
		if err != nil {
			return
		}
		r, err := v.Verify(w.now, q, c)
		if err == nil && (!bytes.Equal(q.Signed, want.Signed) || r.Status != UpToDate) {
			t.Errorf("byte %d changed by %#x and accepted", at, x)
		}
	})
}

// FuzzParseTCBInfo: what the strict decoder accepts, encoding/json reads to the same effect.
func FuzzParseTCBInfo(f *testing.F) {
	for _, version := range []uint16{3, 4} {
		w := newWorld(version)
		f.Add(signJSON(f, w.tcbInfo, "tcbInfo", w.tcbInfoKey))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > smallInput {
			return
		}
		i, err := ParseTCBInfo(b)
		if err != nil {
			return
		}
		var doc struct {
			TCBInfo struct {
				ID                      string
				FMSPC                   string
				TCBEvaluationDataNumber uint32
				TCBLevels               []json.RawMessage
			}
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatalf("encoding/json refuses: %v", err)
		}
		var fmspc [6]byte
		if err := hexBytes(fmspc[:], doc.TCBInfo.FMSPC); err != nil || fmspc != i.FMSPC || doc.TCBInfo.ID != i.ID ||
			doc.TCBInfo.TCBEvaluationDataNumber != i.TCBEvaluationDataNumber || len(doc.TCBInfo.TCBLevels) != len(i.TCBLevels) {
			t.Errorf("encoding/json reads %+v", doc)
		}
	})
}

func FuzzParseQEIdentity(f *testing.F) {
	for _, version := range []uint16{3, 4} {
		w := newWorld(version)
		f.Add(signJSON(f, w.qeIdentity, "enclaveIdentity", w.qeIDKey))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > smallInput {
			return
		}
		e, err := ParseQEIdentity(b)
		if err != nil {
			return
		}
		var doc struct {
			EnclaveIdentity struct {
				ID        string
				ISVProdID uint16
				MRSIGNER  string
			}
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatalf("encoding/json refuses: %v", err)
		}
		var mrsigner [32]byte
		if err := hexBytes(mrsigner[:], doc.EnclaveIdentity.MRSIGNER); err != nil || mrsigner != e.MRSIGNER || doc.EnclaveIdentity.ID != e.ID ||
			doc.EnclaveIdentity.ISVProdID != e.ISVProdID {
			t.Errorf("encoding/json reads %+v", doc)
		}
	})
}

func FuzzParseCRL(f *testing.F) {
	w := newWorld(4)
	revoke(w.pckCRL, w.pck)
	_, _, c := w.build(f)
	f.Add(c.PCKCRL.List.Raw)
	f.Add(c.RootCRL.List.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > smallInput {
			return
		}
		c, err := ParseCRL(b)
		if err != nil {
			return
		}
		if want, err := x509.ParseRevocationList(b); err == nil {
			for _, r := range want.RevokedCertificateEntries {
				if !c.Revoked(&x509.Certificate{SerialNumber: r.SerialNumber}) {
					t.Error("revoked certificate is not revoked")
				}
			}
		}
	})
}

func FuzzParseChain(f *testing.F) {
	_, _, c := newWorld(4).build(f)
	var chain []byte
	for _, cert := range c.TCBInfoChain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	f.Add(chain)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > smallInput {
			return
		}
		chain, err := ParseChain(b)
		if err != nil {
			return
		}
		if n := strings.Count(string(b), "-----BEGIN CERTIFICATE-----"); n != len(chain) {
			t.Errorf("%d certificates of %d", len(chain), n)
		}
	})
}

func FuzzParsePCK(f *testing.F) {
	w := newWorld(4)
	f.Add(w.ext.der(f))
	w.ext.instance, w.ext.configuration = nil, false
	f.Add(w.ext.der(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > smallInput {
			return
		}
		ParsePCK(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSGX, Value: b}}})
	})
}
