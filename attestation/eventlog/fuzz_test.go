package eventlog

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-eventlog/testdata"
)

// consistent checks what must hold for every log that parses.
func consistent(t *testing.T, l *Log, err error) {
	t.Helper()
	if (l == nil) == (err == nil) {
		t.Fatal("neither a log nor an error, or both")
	}
	if err != nil {
		return
	}
	for i, e := range l.Events {
		if len(e.Digest) != l.Algorithm.Size() {
			t.Fatalf("event %d has a digest of %d bytes", i, len(e.Digest))
		}
		if most := map[Registers]int{PCR: maxRegister, RTMR: 3}[l.Registers]; e.Register < 0 || e.Register > most {
			t.Fatalf("event %d is in register %d", i, e.Register)
		}
		if e.NameBound && e.Binding != Bound {
			t.Fatalf("event %d binds a name but is %v", i, e.Binding)
		}
		if v, err := e.Variable(); err == nil && e.Binding != Bound {
			t.Fatalf("event %d shows the variable %s but is %v", i, v.Name, e.Binding)
		}
	}
	_, _ = l.SecureBoot()
	_, _ = l.Runtime("app-id")
	r, err := Replay(l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(r, l); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseCCEL(f *testing.F) {
	f.Add(ccel().bytes())
	f.Add(vectorOrNil(liveCCEL))
	f.Add(vectorOrNil(googleCCEL))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseCCEL(b)
		consistent(t, l, err)
	})
}

func FuzzParseTCG(f *testing.F) {
	f.Add(testdata.Ubuntu2404AmdSevSnpEventLog)
	f.Add((&writer{algs: []uint16{0x0B}}).event(0, EventNoAction, []byte("StartupLocality\x00\x03"), nil).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseTCG(b, crypto.SHA256)
		consistent(t, l, err)
	})
}

func FuzzParseDstack(f *testing.F) {
	f.Add([]byte("[" + runtimeEvent("app-id", "ab", "") + "," + later("app-id", "ab", "", `,"version":2`) + "]"))
	var doc struct {
		EventLog string `json:"event_log"`
	}
	for _, n := range []string{dstackFull, dstackLite} {
		if json.Unmarshal(vectorOrNil(n), &doc) == nil {
			f.Add([]byte(doc.EventLog))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseDstack(b)
		consistent(t, l, err)
	})
}

// FuzzParse is for what tells the forms apart.
func FuzzParse(f *testing.F) {
	f.Add([]byte("[" + runtimeEvent("app-id", "ab", "") + "]"))
	for _, n := range []string{liveCCEL, ubuntuTCG} {
		f.Add(vectorOrNil(n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		consistent(t, l, err)
		if err == nil && !Recognise(b) {
			t.Fatal("parsed without having been recognised")
		}
	})
}

func FuzzParseCEL(f *testing.F) {
	content := []byte{80, 0, 0, 0, 1, 'x'}
	f.Add(record(0, 108, 4, 0xC, digest(crypto.SHA384, content), content))
	if b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(vectorOrNil(spaceCEL))), "")); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseCEL(b, crypto.SHA384)
		consistent(t, l, err)
	})
}
