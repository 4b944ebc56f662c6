package nvidia

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// seeds adds what real evidence is here; the rest comes from the forge, so that
// the targets start from well-formed input anywhere.
func seeds(f *testing.F, names ...string) {
	for _, n := range names {
		f.Add(vectorOrNil(n))
	}
}

func FuzzParseReport(f *testing.F) {
	fg := newForge(f, layout{})
	f.Add(gpu().sign(f, fg.keys[0]))
	f.Add(nvswitch(PDI{1}, PDI{2}).sign(f, fg.keys[0]))
	for _, n := range []string{goReport, switchReport} {
		if b, err := hex.DecodeString(string(bytes.TrimSpace(vectorOrNil(n)))); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if (r == nil) == (err == nil) {
			t.Fatal("neither a report nor an error, or both")
		}
		if err != nil {
			return
		}
		if len(r.Signed)+SignatureSize != len(b) || !bytes.Equal(r.Signed, b[:len(r.Signed)]) {
			t.Fatal("the signature does not cover everything before it")
		}
		if !bytes.Equal(reassemble(r), b) {
			t.Fatal("the report does not hold every byte")
		}
		r.VBIOSRIMID()
		r.DriverRIMID("GB100")
	})
}

// reassemble encodes a parsed report again: strict parsing loses nothing.
func reassemble(r *Report) []byte {
	x := gpu()
	x.nonce, x.respNonce, x.fields, x.blocks = r.Nonce, r.ResponseNonce, r.Fields, nil
	for _, m := range r.Measurements {
		b := block(m.Index, m.Value)
		b[4] = m.Type
		x.blocks = append(x.blocks, b)
	}
	return append(x.tbs(), r.Signature[:]...)
}

func FuzzParseChain(f *testing.F) {
	fg := newForge(f, layout{})
	f.Add(fg.pem())
	f.Add(newForge(f, layout{tcbInfo: true, flags: []byte{0, 1}}).pem())
	seeds(f, goChain, switchChain)
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := ParseChain(b, ChainLength)
		if err == nil && len(certs) != ChainLength {
			t.Fatal("a chain of another length")
		}
		if err == nil {
			_, _, _ = diceFWID(certs[0], certs[1])
		}
		if err != nil || verifyLinks(certs) != nil || !fg.keys[4].PublicKey.Equal(certs[4].PublicKey) {
			return
		}
		for i, c := range certs { // whatever verifies is what the authority signed
			if !fg.keys[i].PublicKey.Equal(c.PublicKey) || c.IsCA != (i > 0) {
				t.Fatalf("certificate %d is not the authority's", i)
			}
		}
	})
}

func FuzzDICE(f *testing.F) {
	fg := newForge(f, layout{})
	f.Add(compositeDER(1, fg.certs[1].RawSubjectPublicKeyInfo, forgedFWID))
	f.Add(tcbInfoDER([]byte{0, 0x80, 0, 0, 1}, forgedFWID, forgedFWID))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := compositeDeviceID(b, fg.certs[1]); err == nil && len(id) != DigestSize {
			t.Fatal("a firmware id of another length")
		}
		if id, _, err := tcbInfo(b); err == nil && len(id) != DigestSize {
			t.Fatal("a firmware id of another length")
		}
	})
}

func FuzzParseRIM(f *testing.F) {
	fg := newForge(f, layout{})
	good := fg.rim(manifest{golden: map[int][]string{7: {hex.EncodeToString(forgedMeasurement(7))}}})
	f.Add(good)
	seeds(f, switchRIM, goDriverRIM)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRIM(b)
		if (r == nil) == (err == nil) {
			t.Fatal("neither a manifest nor an error, or both")
		}
		if err != nil || r.sigErr != nil || !fg.keys[0].PublicKey.Equal(r.certs[0].PublicKey) {
			return
		}
		if len(r.Golden) != 1 || r.Golden[0].Index != 7 || !bytes.Equal(r.Golden[0].Values[0], forgedMeasurement(7)) || r.Version != "545.00" || r.Product != "GH100" {
			t.Fatalf("a manifest that the authority did not sign: %+v", r)
		}
	})
}

func FuzzParseOCSP(f *testing.F) {
	fg := newForge(f, layout{})
	f.Add(fg.ocsp(answer{cert: fg.certs[1], issuer: fg.certs[2], signer: fg.keys[2], nonce: []byte{1}}))
	f.Add(fg.ocsp(answer{cert: fg.certs[1], issuer: fg.certs[2], signer: fg.keys[2], status: RevocationHold, reason: 6, include: fg.certs[:1]}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseOCSP(b)
		if err != nil {
			return
		}
		_, _ = r.verify(fg.certs[2])
		if s := r.about(fg.certs[1], fg.certs[2]); s != nil && s.status == "" {
			t.Fatal("an answer without a status")
		}
	})
}
