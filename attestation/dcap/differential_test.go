//go:build !js

package dcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// subject is a quote with all that is needed to appraise it with either library.
type subject struct {
	name string
	raw  []byte
	pcs  responses
	at   time.Time
}

// subjects are the real TDX quotes with real collateral and CRLs of one time.
func subjects(t testing.TB) (ss []subject) {
	armor := func(kind string, ders ...[]byte) (s string) {
		for _, der := range ders {
			s += string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		}
		return s
	}
	document := func(member string, raw []byte, sig [64]byte) []byte {
		return []byte(`{"` + member + `":` + string(raw) + `,"signature":"` + hex.EncodeToString(sig[:]) + `"}`)
	}
	for _, e := range expectations(t) {
		if e.Kind != "TDX" {
			continue
		}
		for _, a := range e.Appraisals {
			c := realCollateral(t, a.TcbInfo, a.QeIdentity, e.Ca, a.At)
			raw := vectorFile(t, e.File)
			q, err := ParseQuote(raw)
			if err != nil {
				t.Fatal(err)
			}
			if c.RootCRL == nil || c.PCKCRL == nil || len(c.TCBInfoChain) == 0 {
				continue
			}
			signer := armor("CERTIFICATE", c.TCBInfoChain[0].Raw, IntelRoot().Raw)
			ss = append(ss, subject{e.File + " at " + a.At.Format(time.DateOnly), raw, responses{
				tcbInfo: document("tcbInfo", c.TCBInfo.Raw, c.TCBInfo.Signature), qeIdentity: document("enclaveIdentity", c.QEIdentity.Raw, c.QEIdentity.Signature),
				rootCRL: c.RootCRL.List.Raw, pckCRL: c.PCKCRL.List.Raw,
				tcbChain: signer, qeChain: signer, crlChain: armor("CERTIFICATE", q.PCKChain[1], IntelRoot().Raw),
			}, a.At})
		}
	}
	return ss
}

// ours appraises like a program that takes only "UpToDate". why names the check or step that refused, or the status.
func ours(t testing.TB, v *Verifier, s subject) (accepted bool, why string) {
	q, err := ParseQuote(s.raw)
	if err != nil {
		return false, "malformed quote"
	}
	c := &Collateral{}
	for i, parse := range []func() error{
		func() (err error) { c.TCBInfo, err = ParseTCBInfo(s.pcs.tcbInfo); return },
		func() (err error) { c.QEIdentity, err = ParseQEIdentity(s.pcs.qeIdentity); return },
		func() (err error) { c.TCBInfoChain, err = ParseChain([]byte(s.pcs.tcbChain)); return },
		func() (err error) { c.QEIdentityChain, err = ParseChain([]byte(s.pcs.qeChain)); return },
		func() (err error) { c.RootCRL, err = ParseCRL(s.pcs.rootCRL); return },
		func() (err error) { c.PCKCRL, err = ParseCRL(s.pcs.pckCRL); return },
	} {
		if err := parse(); err != nil {
			why := "malformed " + []string{"TCB info", "QE identity", "chain", "chain", "root CRL", "PCK CRL"}[i]
			if strings.Contains(err.Error(), "behind it") {
				why += " (bytes behind it)"
			}
			return false, why
		}
	}
	r, err := v.Verify(s.at, q, c)
	if err != nil {
		check := err.(*check.Error).Check
		if strings.Contains(check.Detail, "is valid from") {
			return false, check.ID + " (not yet)"
		}
		return false, check.ID
	}
	return r.Status == UpToDate, string(r.Status)
}

// theirs appraises with go-tdx-guest.
func theirs(s subject) (accepted bool, why string) {
	defer func() {
		if p := recover(); p != nil {
			accepted, why = false, "panic"
		}
	}()
	if err := peerVerify(s.raw, pcs(s.pcs), s.at); err != nil {
		if strings.Contains(err.Error(), "could not parse PEM formatted root certificate") {
			return false, "issuer chain without root"
		}
		return false, err.Error()
	}
	return true, ""
}

// explained are the disagreements that docs/differences.md explains, by our reason.
var explained = map[string]string{
	"we accept: issuer chain without root":                "the root may be left out",
	"they panic":                                          "malformed lengths",
	"they accept: " + string(OutOfDate):                   "platform out of date behind an up-to-date TDX module",
	"they accept: " + CheckParse:                          "bytes behind the quote",
	"they accept: malformed root CRL (bytes behind it)":   "bytes behind a CRL",
	"they accept: malformed PCK CRL (bytes behind it)":    "bytes behind a CRL",
	"they accept: " + CheckRootCRL + " (not yet)":         "statements from the future",
	"they accept: " + CheckPCKCRL + " (not yet)":          "statements from the future",
	"they accept: " + CheckTCBInfoValidity + " (not yet)": "statements from the future",
}

// mutate changes one thing of a subject.
func mutate(rnd *rand.Rand, s subject) subject {
	bend := func(b []byte) []byte {
		b = bytes.Clone(b)
		at := rnd.IntN(len(b))
		switch rnd.IntN(10) {
		case 0, 1, 2, 3:
			b[at] ^= 1 << rnd.IntN(8)
		case 4, 5:
			b[at] = byte(rnd.Uint32())
		case 6:
			b = b[:at]
		case 7:
			n := min(1+rnd.IntN(8), len(b)-at)
			b = slices.Delete(b, at, at+n)
		case 8:
			b = slices.Insert(b, at, make([]byte, 1+rnd.IntN(8))...)
		case 9:
			b = append(b, byte(rnd.Uint32()))
		}
		return b
	}
	switch n := rnd.IntN(20); {
	case n < 3: // the places where lengths and types lie
		start := headerSize + tdReport10Size
		if s.raw[0] == 5 {
			start = signatureDataAt(5)
		}
		at := []int{0, 2, 4, headerSize, headerSize + 2, start, start + qeDataType, start + qeDataLen, start + authLen, start + pckType, start + pckLen}[rnd.IntN(11)]
		s.raw = bytes.Clone(s.raw)
		v := []uint32{0, 1, 0xffff, 0xffffffff, 0x7fffffff, binary.LittleEndian.Uint32(s.raw[at:]) + 1, binary.LittleEndian.Uint32(s.raw[at:]) - 1, rnd.Uint32()}[rnd.IntN(8)]
		binary.LittleEndian.PutUint32(s.raw[at:], v)
	case n < 14:
		s.raw = bend(s.raw)
	case n == 14:
		s.pcs.tcbInfo = bend(s.pcs.tcbInfo)
	case n == 15:
		s.pcs.qeIdentity = bend(s.pcs.qeIdentity)
	case n == 16:
		s.pcs.rootCRL = bend(s.pcs.rootCRL)
	case n == 17:
		s.pcs.pckCRL = bend(s.pcs.pckCRL)
	case n == 18:
		s.pcs.tcbChain = string(bend([]byte(s.pcs.tcbChain)))
	default:
		s.at = s.at.AddDate(0, 0, rnd.IntN(800)-400)
	}
	return s
}

// TestDifferential compares our verdict with go-tdx-guest's, over the real quotes and mutations of them. Every disagreement must
// be one that docs/differences.md explains. BOMBYX_MUTATIONS sets the number of mutations; 300 by default, 100000 in a long run.
func TestDifferential(t *testing.T) {
	n := 300
	if s := os.Getenv("BOMBYX_MUTATIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	v := intelVerifier(t)
	ss := subjects(t)
	if len(ss) == 0 {
		t.Fatal("no subjects")
	}
	counts := map[string]int{}
	compare := func(s subject) {
		us, why := ours(t, v, s)
		them, theirWhy := theirs(s)
		key := "agree"
		switch {
		case theirWhy == "panic":
			key = "they panic"
			if us {
				t.Errorf("%s: they panic, we accept", s.name)
			}
		case them && !us:
			key = "they accept: " + why
		case us && !them:
			key = "we accept: " + theirWhy
		}
		if _, ok := explained[key]; !ok && key != "agree" {
			t.Errorf("%s: %s", s.name, key)
		}
		counts[key]++
	}
	for _, s := range ss {
		compare(s)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range n {
		compare(mutate(rnd, ss[rnd.IntN(len(ss))]))
	}
	for k, c := range counts {
		t.Logf("%6d %s (%s)", c, k, explained[k])
	}
}
