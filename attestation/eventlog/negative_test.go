package eventlog

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// writer makes crypto-agile logs.
type writer struct {
	algs []uint16
	spec []byte // replaces the Spec ID event
	body []byte
}

func u16(v int) []byte    { return binary.LittleEndian.AppendUint16(nil, uint16(v)) }
func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func (w *writer) specID() []byte {
	if w.spec != nil {
		return w.spec
	}
	b := slices.Concat([]byte("Spec ID Event03\x00"), u32(0), []byte{0, 2, 0, 2}, u32(uint32(len(w.algs))))
	for _, a := range w.algs {
		b = slices.Concat(b, u16(int(a)), u16(digestSizes[a]))
	}
	return append(b, 0)
}

// event appends an event whose digests are of measured.
func (w *writer) event(index int, typ Type, data, measured []byte) *writer {
	w.body = slices.Concat(w.body, u32(uint32(index)), u32(uint32(typ)), u32(uint32(len(w.algs))))
	for _, a := range w.algs {
		w.body = slices.Concat(w.body, u16(int(a)), digest(algorithms[a], measured))
	}
	w.body = slices.Concat(w.body, u32(uint32(len(data))), data)
	return w
}

func (w *writer) bytes() []byte {
	spec := w.specID()
	return slices.Concat(u32(0), u32(uint32(EventNoAction)), make([]byte, 20), u32(uint32(len(spec))), spec, w.body)
}

func sha384() *writer { return &writer{algs: []uint16{0x0C}} }

func variable(guid [16]byte, name string, value []byte) []byte {
	chars := utf16.Encode([]rune(name))
	b := slices.Concat(guid[:], binary.LittleEndian.AppendUint64(nil, uint64(len(chars))), binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	for _, c := range chars {
		b = append(b, u16(int(c))...)
	}
	return append(b, value...)
}

var zeros = make([]byte, 4)

// ccel is a small good log.
func ccel() *writer {
	sb := variable(GUIDGlobalVariable, "SecureBoot", []byte{1})
	boot := variable(GUIDGlobalVariable, "BootOrder", []byte{1, 0})
	return sha384().
		event(1, EventEFIHandoffTables2, []byte("TdxTable"), []byte("the table")).
		event(1, EventEFIVariableDriverConfig, sb, sb).
		event(1, EventSeparator, zeros, zeros).
		event(1, EventEFIVariableBoot, boot, []byte{1, 0}).
		event(2, EventEFIAction, []byte("Exit Boot Services Invocation"), []byte("Exit Boot Services Invocation")).
		event(3, EventIPL, []byte("kernel_cmdline: quiet\x00"), []byte("quiet"))
}

func mustCCEL(t testing.TB, b []byte) *Log {
	t.Helper()
	l, err := ParseCCEL(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// registers replays and fills the untouched RTMRs with zeros.
func registers(t testing.TB, logs ...*Log) map[int][]byte {
	t.Helper()
	r, err := Replay(logs...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if r[i] == nil {
			r[i] = make([]byte, 48)
		}
	}
	return r
}

func TestForgedCCEL(t *testing.T) {
	l := mustCCEL(t, ccel().bytes())
	checks, err := Verify(registers(t, l), l)
	if err != nil || len(checks) != 5 {
		t.Fatal(checks, err)
	}
	allPass(t, checks)
	if got := fmt.Sprint(count(l)); got != "[0 1 5 0]" {
		t.Error(got)
	}
	if on, err := l.SecureBoot(); !on || err != nil {
		t.Error(on, err)
	}
	for _, pad := range []byte{0, 0xFF} {
		if p := mustCCEL(t, append(ccel().bytes(), bytes.Repeat([]byte{pad}, 1000)...)); len(p.Events) != len(l.Events) {
			t.Errorf("%d events before padding, want %d", len(p.Events), len(l.Events))
		}
	}
	// The value of the known answer: H(0 || H("a")), in SHA-384.
	one := mustCCEL(t, sha384().event(4, EventEFIAction, []byte("a"), []byte("a")).bytes())
	want := digest(crypto.SHA384, append(make([]byte, 48), digest(crypto.SHA384, []byte("a"))...))
	if got := registers(t, one)[3]; !bytes.Equal(got, want) {
		t.Errorf("RTMR 3 is %x, want %x", got, want)
	}
}

func TestParseNegatives(t *testing.T) {
	good := ccel().bytes()
	spec := sha384().specID()
	withSpec := func(s []byte) []byte { return (&writer{algs: []uint16{0x0C}, spec: s}).bytes() }
	edit := func(b []byte, i int, v byte) []byte { b = bytes.Clone(b); b[i] = v; return b }
	event := func(parts ...[]byte) []byte { return slices.Concat(sha384().bytes(), slices.Concat(parts...)) }
	d := make([]byte, 48)
	for name, x := range map[string]struct {
		log []byte
		why string
	}{
		"empty":                       {nil, "truncated"},
		"too large":                   {make([]byte, MaxSize+1), "the most is"},
		"first event measured":        {edit(good, 4, 4), "not an unmeasured EV_NO_ACTION"},
		"first event with a digest":   {edit(good, 9, 1), "not an unmeasured EV_NO_ACTION"},
		"first event too long":        {edit(good, 31, 0xFF), "truncated"},
		"SHA-1 log":                   {withSpec(append([]byte("Spec ID Event02\x00"), spec[16:]...)), "not a crypto-agile log"},
		"no algorithms":               {withSpec(append(append(bytes.Clone(spec[:24]), 0, 0, 0, 0), 0)), "0 algorithms"},
		"many algorithms":             {withSpec(edit(spec, 24, 9)), "9 algorithms"},
		"algorithm twice":             {withSpec(slices.Concat(spec[:24], u32(2), spec[28:32], spec[28:32], []byte{0})), "appears twice"},
		"wrong digest size":           {withSpec(edit(spec, 30, 32)), "digests of 32 bytes"},
		"unknown algorithm":           {withSpec(edit(spec, 28, 0x55)), "algorithm 0x0055"},
		"vendor information too long": {withSpec(edit(spec, 32, 4)), "truncated"},
		"bytes behind the Spec ID":    {withSpec(append(bytes.Clone(spec), 1)), "1 bytes behind"},
		"no SHA-384":                  {(&writer{algs: []uint16{0x0B}}).bytes(), "no SHA-384 digests"},
		"cut in the algorithms":       {withSpec(slices.Concat(spec[:24], u32(2), spec[28:30])), "truncated in the digest size"},
		"cut in the Spec ID":          {withSpec(spec[:26]), "truncated in the number of algorithms"},
		"cut in the register":         {event([]byte{1}), "truncated in the register index"},
		"cut in the number":           {event(u32(1), u32(5), u16(1)), "truncated in the number of digests"},
		"cut in the algorithm":        {event(u32(1), u32(5), u32(1), []byte{0xC}), "truncated in the algorithm"},
		"register 0":                  {sha384().event(0, EventAction, nil, nil).bytes(), "register index 0"},
		"register 5":                  {sha384().event(5, EventAction, nil, nil).bytes(), "register index 5"},
		"register 2^31":               {event(u32(1<<31), u32(5), u32(1), u16(0xC), d, u32(0)), "register index 2147483648"},
		"no digests":                  {event(u32(1), u32(5), u32(0), u32(0)), "0 digests"},
		"digest of another algorithm": {event(u32(1), u32(5), u32(1), u16(0xB), d[:32], u32(0)), "not announced"},
		"digest twice":                {slices.Concat((&writer{algs: []uint16{0xB, 0xC}}).bytes(), u32(1), u32(5), u32(2), u16(0xC), d, u16(0xC), d, u32(0)), "appears twice"},
		"data longer than the log":    {event(u32(1), u32(5), u32(1), u16(0xC), d, u32(1), nil), "truncated in the event data"},
		"data of 4 GiB":               {event(u32(1), u32(5), u32(1), u16(0xC), d, u32(0xFFFFFFFF)), "truncated in the event data"},
		"cut in a digest":             {event(u32(1), u32(5), u32(1), u16(0xC), d[:47]), "truncated in the digest"},
		"junk behind the padding":     {append(append(bytes.Clone(good), make([]byte, 100)...), 1), "0 digests"},
		"padding of another byte":     {append(bytes.Clone(good), bytes.Repeat([]byte{0x5A}, 100)...), "1515870810 digests"},
		"padding of two kinds":        {append(append(bytes.Clone(good), make([]byte, 100)...), 0xFF), "0 digests"},
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := ParseCCEL(x.log); err == nil || !strings.Contains(err.Error(), x.why) || l != nil {
				t.Errorf("%v, want %q", err, x.why)
			}
		})
	}
	t.Run("every prefix", func(t *testing.T) {
		whole := len(mustCCEL(t, good).Events)
		for i := range good {
			if l, err := ParseCCEL(good[:i]); err == nil && len(l.Events) == whole {
				t.Fatalf("%d of %d bytes are the whole log", i, len(good))
			}
		}
	})
	t.Run("too many events", func(t *testing.T) {
		w := sha384()
		one := sha384().event(1, EventAction, nil, nil).body
		w.body = bytes.Repeat(one, MaxEvents+1)
		if len(w.body) > MaxSize {
			t.Fatal("the test is too large for itself")
		}
		if _, err := ParseCCEL(w.bytes()); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Error(err)
		}
	})
	t.Run("the most", func(t *testing.T) {
		all := sha384()
		all.algs = []uint16{0x04, 0x0B, 0x0C, 0x0D, 0x12, 0x27, 0x28, 0x29}
		mustCCEL(t, all.bytes())
		w := sha384()
		w.body = bytes.Repeat(sha384().event(1, EventAction, nil, nil).body, MaxEvents)
		mustCCEL(t, append(w.bytes(), make([]byte, MaxSize-len(w.bytes()))...))
		if _, err := ParseTCG(sha384().event(23, EventAction, nil, nil).bytes(), crypto.SHA384); err != nil {
			t.Error(err)
		}
	})
	// What speaks of a TPM's locality says nothing about RTMRs.
	t.Run("startup locality", func(t *testing.T) {
		mustCCEL(t, sha384().event(1, EventNoAction, []byte("StartupLocality\x00\x09"), nil).bytes())
	})
	t.Run("PCR 24", func(t *testing.T) {
		if _, err := ParseTCG(sha384().event(24, EventAction, nil, nil).bytes(), crypto.SHA384); err == nil {
			t.Error("accepted")
		}
	})
}

func TestReplayNegatives(t *testing.T) {
	l := mustCCEL(t, ccel().bytes())
	want := registers(t, l)
	status := func(t *testing.T, l *Log) string {
		t.Helper()
		checks, err := Verify(want, l)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, c := range checks {
			if c.Status != check.Pass {
				out = append(out, fmt.Sprint(c.ID, " ", c.Status))
			}
		}
		return strings.Join(out, ", ")
	}
	change := func(f func(l *Log)) *Log {
		c := *l
		c.Events = slices.Clone(l.Events)
		f(&c)
		return &c
	}
	for name, x := range map[string]struct {
		l    *Log
		want string
	}{
		"unchanged":        {l, ""},
		"event removed":    {change(func(l *Log) { l.Events = l.Events[:5] }), "eventlog.rtmr2 FAIL"},
		"event added":      {change(func(l *Log) { l.Events = append(l.Events, l.Events[5]) }), "eventlog.rtmr2 FAIL"},
		"events swapped":   {change(func(l *Log) { l.Events[0], l.Events[1] = l.Events[1], l.Events[0] }), "eventlog.rtmr0 FAIL"},
		"event moved":      {change(func(l *Log) { l.Events[5].Register = 3 }), "eventlog.rtmr2 FAIL, eventlog.rtmr3 FAIL"},
		"event unmeasured": {change(func(l *Log) { l.Events[5].Binding = NotMeasured }), "eventlog.rtmr2 FAIL"},
		// What a log without a check on its data accepts.
		"data exchanged": {mustCCEL(t, bytes.Replace(ccel().bytes(), []byte("kernel_cmdline: quiet"), []byte("kernel_cmdline: debug"), 1)), "eventlog.digests FAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := status(t, x.l); got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
		})
	}
	t.Run("what is said", func(t *testing.T) {
		checks, err := Verify(map[int][]byte{0: want[0]}, change(func(l *Log) { l.Events = l.Events[1:] }))
		if c := checks[0]; err != nil || c.Seen == c.Wanted || c.Wanted != hex.EncodeToString(want[0]) || !strings.Contains(c.Detail, "does not lead to the register") {
			t.Error(c, err)
		}
		checks, err = Verify(want, change(func(l *Log) {
			for i := range 5 {
				l.Events[i].Binding = Contradicted
			}
		}))
		if c := checks[4]; err != nil || c.Seen != "5 contradicted, 1 bound, 0 unbound, 0 not measured" || !strings.HasSuffix(c.Detail, "log 0 event 3 (EV_EFI_VARIABLE_BOOT in rtmr 0)") {
			t.Error(c, err)
		}
	})
	t.Run("register without a value", func(t *testing.T) {
		checks, err := Verify(map[int][]byte{0: want[0]}, l)
		if err != nil || len(checks) != 4 || checks[1].Status != check.Skip || checks[2].Status != check.Skip {
			t.Error(checks, err)
		}
	})
	t.Run("register that the log does not know", func(t *testing.T) {
		w := map[int][]byte{0: want[0], 1: want[1], 2: want[2], 3: bytes.Repeat([]byte{1}, 48)}
		checks, err := Verify(w, l)
		if err != nil || checks[3].Status != check.Fail || !strings.Contains(checks[3].Detail, "does not say with what") {
			t.Error(checks, err)
		}
	})
	t.Run("register of another size", func(t *testing.T) {
		if _, err := Verify(map[int][]byte{0: make([]byte, 32)}, l); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("no logs, nil logs, mixed logs", func(t *testing.T) {
		tpm, err := ParseTCG(ccel().bytes(), crypto.SHA384)
		if err != nil {
			t.Fatal(err)
		}
		short, err := ParseCEL(record(0, 108, 4, 0xB, digest(crypto.SHA256, []byte{80, 0, 0, 0, 0}), []byte{80, 0, 0, 0, 0}), crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		for _, logs := range [][]*Log{nil, {nil}, {l, nil}, {l, tpm}, {l, short}} {
			if _, err := Verify(want, logs...); err == nil {
				t.Errorf("%v accepted", logs)
			}
		}
	})
	t.Run("no log with zero registers", func(t *testing.T) {
		checks, err := Verify(map[int][]byte{0: make([]byte, 48)}, &Log{Registers: RTMR, Algorithm: crypto.SHA384})
		if err != nil || checks[0].Status != check.Pass {
			t.Error(checks, err)
		}
	})
}

func TestBinding(t *testing.T) {
	v := variable(GUIDGlobalVariable, "x", []byte("value"))
	tail := append(bytes.Clone(v), 1, 2, 3, 4, 5)
	for name, x := range map[string]struct {
		typ            Type
		data, measured []byte
		want           Binding
		nameBound      bool
	}{
		"separator":                       {EventSeparator, zeros, zeros, Bound, true},
		"separator exchanged":             {EventSeparator, zeros, []byte{1}, Contradicted, false},
		"action exchanged":                {EventEFIAction, []byte("a"), []byte("b"), Contradicted, false},
		"GPT exchanged":                   {EventEFIGPT, []byte("a"), []byte("b"), Contradicted, false},
		"variable":                        {EventEFIVariableDriverConfig, v, v, Bound, true},
		"variable's value only":           {EventEFIVariableDriverConfig, v, []byte("value"), Contradicted, false},
		"boot variable's value":           {EventEFIVariableBoot, v, []byte("value"), Bound, false},
		"boot variable in whole":          {EventEFIVariableBoot, v, v, Bound, true},
		"boot variable exchanged":         {EventEFIVariableBoot, v, []byte("other"), Contradicted, false},
		"boot variable that is none":      {EventEFIVariableBoot, v[:9], v, Contradicted, false},
		"authority with a measured tail":  {EventEFIVariableAuthority, tail, tail[:len(tail)-1], Bound, true},
		"variable with a measured tail":   {EventEFIVariableDriverConfig, tail, tail[:len(tail)-1], Bound, true},
		"variable with 7 stray bytes":     {EventEFIVariableDriverConfig, append(bytes.Clone(v), 1, 2, 3, 4, 5, 6, 7), append(bytes.Clone(v), 1, 2, 3, 4, 5, 6), Bound, true},
		"variable with 8 stray bytes":     {EventEFIVariableDriverConfig, append(bytes.Clone(v), 1, 2, 3, 4, 5, 6, 7, 8), append(bytes.Clone(v), 1, 2, 3, 4, 5, 6, 7), Contradicted, false},
		"variable that is none":           {EventEFIVariableDriverConfig, []byte("short"), []byte("sh"), Contradicted, false},
		"newer boot variable's value":     {EventEFIVariableBoot2, v, []byte("value"), Bound, false},
		"authority with a long tail":      {EventEFIVariableAuthority, append(tail, tail...), tail, Contradicted, false},
		"firmware blob":                   {EventEFIPlatformFirmwareBlob, []byte("address"), []byte("image"), Unbound, false},
		"application":                     {EventEFIBootServicesApplication, []byte("path"), []byte("image"), Unbound, false},
		"tag":                             {EventTag, []byte("LOADED_IMAGE"), []byte("options"), Unbound, false},
		"unknown type":                    {0x12345678, []byte("a"), []byte("b"), Unbound, false},
		"unknown type, data measured":     {0x12345678, []byte("a"), []byte("a"), Bound, true},
		"no action":                       {EventNoAction, []byte("a"), []byte("a"), NotMeasured, false},
		"GRUB command":                    {EventIPL, []byte("grub_cmd: boot\x00"), []byte("boot"), Bound, false},
		"GRUB command exchanged":          {EventIPL, []byte("grub_cmd: boot\x00"), []byte("halt"), Contradicted, false},
		"GRUB module":                     {EventIPL, []byte("module_cmdline: x\x00"), []byte("y"), Contradicted, false},
		"GRUB file":                       {EventIPL, []byte("/vmlinuz\x00"), []byte("kernel"), Unbound, false},
		"runtime event outside of dstack": {EventDstackRuntime, []byte("payload"), dstackMessage("", []byte("payload")), Unbound, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := mustCCEL(t, sha384().event(1, x.typ, x.data, x.measured).bytes()).Events[0]
			if e.Binding != x.want || e.NameBound != x.nameBound {
				t.Errorf("%v, name %v", e.Binding, e.NameBound)
			}
			got, err := e.Variable()
			isVariable := x.typ == EventEFIVariableDriverConfig || x.typ == EventEFIVariableBoot || x.typ == EventEFIVariableBoot2 || x.typ == EventEFIVariableAuthority
			if ok := isVariable && x.nameBound; ok != (err == nil) || ok && (got.Name != "x" || string(got.Value) != "value" || got.GUID != GUIDGlobalVariable) {
				t.Errorf("variable %v, %v", got, err)
			}
		})
	}
}

func TestVariable(t *testing.T) {
	good := variable(GUIDGlobalVariable, "ab", []byte{1, 2})
	if v, err := parseVariable(good); err != nil || v.Name != "ab" || !bytes.Equal(v.Value, []byte{1, 2}) {
		t.Fatal(v, err)
	}
	huge := bytes.Clone(good)
	huge[23] = 0x80 // 2^63 characters: twice that is zero in 64 bits
	long := bytes.Clone(good)
	long[24] = 3
	if v, err := parseVariable(variable(GUIDGlobalVariable, "", nil)); err != nil || v.Name != "" || len(v.Value) != 0 {
		t.Error(v, err)
	}
	for _, b := range [][]byte{huge, long} {
		if n, err := variableSize(b); err == nil {
			t.Errorf("a variable of %d bytes in %d", n, len(b))
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "short": good[:31], "cut": good[:len(good)-1], "tail": append(bytes.Clone(good), 0), "overflow": huge, "long value": long} {
		if v, err := parseVariable(b); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestSecureBoot(t *testing.T) {
	on, off := variable(GUIDGlobalVariable, "SecureBoot", []byte{1}), variable(GUIDGlobalVariable, "SecureBoot", []byte{0})
	for name, x := range map[string]struct {
		w    *writer
		want bool
		why  string
	}{
		"on":               {sha384().event(1, EventEFIVariableDriverConfig, on, on), true, ""},
		"off":              {sha384().event(1, EventEFIVariableDriverConfig, off, off), false, ""},
		"no such variable": {sha384().event(1, EventEFIVariableDriverConfig, variable(GUIDGlobalVariable, "SecureBoot", nil), variable(GUIDGlobalVariable, "SecureBoot", nil)), false, ""},
		"data exchanged":   {sha384().event(1, EventEFIVariableDriverConfig, on, off), false, "not covered"},
		"not measured":     {sha384().event(1, EventSeparator, zeros, zeros), false, "was not measured"},
		"twice":            {sha384().event(1, EventEFIVariableDriverConfig, on, on).event(1, EventEFIVariableDriverConfig, off, off), false, "more than once"},
		"another vendor's": {sha384().event(1, EventEFIVariableDriverConfig, variable([16]byte{1}, "SecureBoot", []byte{1}), variable([16]byte{1}, "SecureBoot", []byte{1})), false, "was not measured"},
		"another register": {sha384().event(2, EventEFIVariableDriverConfig, on, on), false, "was not measured"},
		"two bytes":        {sha384().event(1, EventEFIVariableDriverConfig, variable(GUIDGlobalVariable, "SecureBoot", []byte{1, 1}), variable(GUIDGlobalVariable, "SecureBoot", []byte{1, 1})), false, "want 00 or 01"},
		"neither":          {sha384().event(1, EventEFIVariableDriverConfig, variable(GUIDGlobalVariable, "SecureBoot", []byte{2}), variable(GUIDGlobalVariable, "SecureBoot", []byte{2})), false, "want 00 or 01"},
		// After the firmware's separator anybody may extend the register, and the
		// type of the separator can be changed in the log.
		"after the separator":         {sha384().event(1, EventSeparator, zeros, zeros).event(1, EventEFIVariableDriverConfig, on, on), false, "was not measured"},
		"after a failure":             {sha384().event(1, EventSeparator, []byte{0xFF, 0xFF, 0xFF, 0xFF}, []byte{0xFF, 0xFF, 0xFF, 0xFF}).event(1, EventEFIVariableDriverConfig, on, on), false, "was not measured"},
		"after a disguised separator": {sha384().event(1, EventEFIAction, zeros, zeros).event(1, EventEFIVariableDriverConfig, on, on), false, "was not measured"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mustCCEL(t, x.w.bytes()).SecureBoot()
			if got != x.want || (err == nil) != (x.why == "") || err != nil && !strings.Contains(err.Error(), x.why) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestStartupLocality(t *testing.T) {
	w := func() *writer { return &writer{algs: []uint16{0x0B}} }
	start := func(locality ...byte) []byte { return append([]byte("StartupLocality\x00"), locality...) }
	pcr0 := func(first byte) []byte {
		r := make([]byte, 32)
		r[31] = first
		return digest(crypto.SHA256, append(r, digest(crypto.SHA256, []byte("a"))...))
	}
	for name, x := range map[string]struct {
		w    *writer
		want byte
		why  string
	}{
		"none":          {w().event(0, EventAction, []byte("a"), []byte("a")), 0, ""},
		"locality 3":    {w().event(0, EventNoAction, start(3), nil).event(0, EventAction, []byte("a"), []byte("a")), 3, ""},
		"H-CRTM":        {w().event(0, EventEFIHCRTM, []byte("HCRTM"), []byte("a")), 4, ""},
		"locality 1":    {w().event(0, EventNoAction, start(1), nil), 0, "startup locality"},
		"two bytes":     {w().event(0, EventNoAction, start(3, 3), nil), 0, "startup locality"},
		"after extends": {w().event(0, EventAction, []byte("a"), []byte("a")).event(0, EventNoAction, start(3), nil), 0, "startup locality"},
		"twice":         {w().event(0, EventNoAction, start(3), nil).event(0, EventNoAction, start(4), nil), 0, "startup locality"},
		"in PCR 1":      {w().event(1, EventNoAction, start(3), nil).event(0, EventAction, []byte("a"), []byte("a")), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ParseTCG(x.w.bytes(), crypto.SHA256)
			if (err == nil) != (x.why == "") || err != nil && !strings.Contains(err.Error(), x.why) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			r, err := Replay(l)
			if err != nil || !bytes.Equal(r[0], pcr0(x.want)) {
				t.Errorf("PCR 0 is %x, %v", r[0], err)
			}
		})
	}
}

func runtimeEvent(name, payload, digest string) string {
	return fmt.Sprintf(`{"imr":3,"event_type":%d,"digest":"%s","event":"%s","event_payload":"%s"}`, uint32(EventDstackRuntime), digest, name, payload)
}

// later is an event with members that only later versions of dstack write.
func later(name, payload, digest, more string) string {
	return strings.TrimSuffix(runtimeEvent(name, payload, digest), "}") + more + "}"
}

// Runtime events of version 2: their digest is of canonical JSON.
func TestDstackVersion2(t *testing.T) {
	for name, want := range map[string]string{
		"compose-hash":            `{"name":"compose-hash","payload":"abcd","type":134217729}`,
		"a b":                     `{"name":"a b","payload":"abcd","type":134217729}`,
		"a:b":                     `{"name":"a:b","payload":"abcd","type":134217729}`,
		"a\"b\\c/<&>\u2028\x7f":   "{\"name\":\"a\\\"b\\\\c/<&>\u2028\x7f\",\"payload\":\"abcd\",\"type\":134217729}",
		"\b\t\n\f\r\v\x00\x1f":    `{"name":"\b\t\n\f\r\u000b\u0000\u001f","payload":"abcd","type":134217729}`,
		"\u6d4b\u8bd5-\U0001f980": "{\"name\":\"\u6d4b\u8bd5-\U0001f980\",\"payload\":\"abcd\",\"type\":134217729}",
		"":                        `{"name":"","payload":"abcd","type":134217729}`,
	} {
		if got := string(dstackMessage2(name, []byte{0xab, 0xcd})); got != want {
			t.Errorf("%q: %s\nwant %s", name, got, want)
		}
	}
	message := []byte(`{"name":"app-id","payload":"ab","type":134217729}`)
	d := hex.EncodeToString(digest(crypto.SHA384, message))
	for _, e := range []string{
		later("app-id", "ab", d, `,"version":2`), later("app-id", "ab", "", `,"version":2`), later("app-id", "ab", d, `,"version":2,"preimage":"`+hex.EncodeToString(message)+`"`),
		later("app-id", "ab", "", `,"version":1`), later("app-id", "ab", "", `,"preimage":"`+hex.EncodeToString(dstackMessage("app-id", []byte{0xab}))+`"`),
	} {
		l, err := ParseDstack([]byte("[" + e + "]"))
		if err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		if p, err := l.Runtime("app-id"); err != nil || !bytes.Equal(p, []byte{0xAB}) {
			t.Errorf("%s: %x, %v", e, p, err)
		}
	}
	// The digest is of one version only.
	for _, e := range []string{runtimeEvent("app-id", "ab", d), later("app-id", "ac", d, `,"version":2`), later("app-ie", "ab", d, `,"version":2`)} {
		l, err := ParseDstack([]byte("[" + e + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if l.Events[0].Binding != Contradicted {
			t.Errorf("%s: %v", e, l.Events[0].Binding)
		}
	}
	if _, err := NewDstack([]DstackEvent{{IMR: 3, Type: uint32(EventDstackRuntime), Name: "\xff", Version: DstackVersion2}}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Error(err)
	}
}

func TestDstackNegatives(t *testing.T) {
	d := hex.EncodeToString(digest(crypto.SHA384, dstackMessage("app-id", []byte{0xAB})))
	good := runtimeEvent("app-id", "ab", d)
	if l, err := ParseDstack([]byte("[" + good + "," + runtimeEvent("x", "", "") + "]")); err != nil {
		t.Fatal(err)
	} else if p, err := l.Runtime("app-id"); err != nil || !bytes.Equal(p, []byte{0xAB}) {
		t.Fatal(p, err)
	}
	for name, x := range map[string]struct{ log, why string }{
		"empty":                     {"", "dstack log"},
		"not an array":              {good, "dstack log"},
		"unknown member":            {"[" + strings.Replace(good, `"imr"`, `"x":1,"imr"`, 1) + "]", "dstack log"},
		"missing member":            {"[" + strings.Replace(good, `,"event":"app-id"`, "", 1) + "]", "dstack log"},
		"duplicate member":          {"[" + strings.Replace(good, `"imr":3`, `"imr":3,"imr":2`, 1) + "]", "dstack log"},
		"other case":                {"[" + strings.Replace(good, `"imr"`, `"IMR"`, 1) + "]", "dstack log"},
		"trailing data":             {"[" + good + "] 1", "dstack log"},
		"register 4":                {"[" + strings.Replace(good, `"imr":3`, `"imr":4`, 1) + "]", "register 4"},
		"odd payload":               {"[" + runtimeEvent("a", "abc", "") + "]", "payload"},
		"odd digest":                {"[" + runtimeEvent("a", "ab", "xyz") + "]", "digest"},
		"short digest":              {"[" + runtimeEvent("a", "ab", "ab") + "]", "digest of 1 bytes"},
		"boot event without digest": {`[{"imr":0,"event_type":4,"digest":"","event":"","event_payload":"00000000"}]`, "digest of 0 bytes"},
		"version 3":                 {"[" + later("a", "ab", "", `,"version":3`) + "]", "version 3"},
		"version 0":                 {"[" + later("a", "ab", "", `,"version":0`) + "]", "version 0"},
		"version of a boot event":   {`[{"imr":0,"event_type":4,"digest":"","event":"","event_payload":"00000000","version":2}]`, "only runtime events"},
		"preimage of a boot event":  {`[{"imr":0,"event_type":4,"digest":"","event":"","event_payload":"00000000","preimage":""}]`, "only runtime events"},
		"another preimage":          {"[" + later("a", "ab", "", `,"version":2,"preimage":"`+hex.EncodeToString([]byte(`{"name":"b","payload":"ab","type":134217729}`))+`"`) + "]", "preimage"},
		"preimage of version 1":     {"[" + later("a", "ab", "", `,"version":2,"preimage":"`+hex.EncodeToString(dstackMessage("a", []byte{0xAB}))+`"`) + "]", "preimage"},
		"preimage in capitals":      {"[" + later("a", "ab", "", `,"version":2,"preimage":"`+strings.ToUpper(hex.EncodeToString([]byte(`{"name":"a","payload":"ab","type":134217729}`)))+`"`) + "]", "preimage"},
		// One digest, two readings.
		"colon in a name": {"[" + runtimeEvent("app:id", "ab", "") + "]", "colon"},
		"too many":        {"[" + strings.Repeat(`{"imr":3,"event_type":134217729,"digest":"","event":"","event_payload":""},`, MaxEvents) + good + "]", "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseDstack([]byte(x.log)); err == nil || !strings.Contains(err.Error(), x.why) {
				t.Errorf("%v, want %q", err, x.why)
			}
		})
	}
	t.Run("payload exchanged", func(t *testing.T) {
		l, err := ParseDstack([]byte("[" + runtimeEvent("app-id", "ac", d) + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Runtime("app-id"); err == nil || !strings.Contains(err.Error(), "contradicted") {
			t.Error(err)
		}
		checks, err := Verify(registers(t, l), l)
		if err != nil || checks[len(checks)-1].Status != check.Fail {
			t.Error(checks, err)
		}
	})
	t.Run("event twice", func(t *testing.T) {
		l, err := ParseDstack([]byte("[" + good + "," + runtimeEvent("app-id", "ff", "") + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Runtime("app-id"); err == nil || !strings.Contains(err.Error(), "more than once") {
			t.Error(err)
		}
	})
	// The name of another event is not measured: whoever writes the log could choose it.
	t.Run("event of another type with the name", func(t *testing.T) {
		l, err := ParseDstack(fmt.Appendf(nil, `[{"imr":3,"event_type":%d,"digest":"%x","event":"app-id","event_payload":"ab"}]`, uint32(EventEFIAction), digest(crypto.SHA384, []byte{0xAB})))
		if err != nil || l.Events[0].Binding != Bound {
			t.Fatal(l, err)
		}
		if _, err := l.Runtime("app-id"); err == nil || !strings.Contains(err.Error(), "no runtime event") {
			t.Error(err)
		}
	})
	t.Run("the most", func(t *testing.T) {
		l, err := NewDstack(slices.Repeat([]DstackEvent{{IMR: 3, Type: uint32(EventDstackRuntime), Version: DstackVersion1}}, MaxEvents))
		if err != nil || len(l.Events) != MaxEvents {
			t.Error(err)
		}
	})
	t.Run("runtime event in a boot register", func(t *testing.T) {
		l, err := ParseDstack([]byte("[" + strings.Replace(good, `"imr":3`, `"imr":0`, 1) + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Runtime("app-id"); err == nil {
			t.Error("a runtime event counts outside of RTMR 3")
		}
	})
	t.Run("stripped boot event says nothing", func(t *testing.T) {
		sb := variable(GUIDGlobalVariable, "SecureBoot", []byte{1})
		l, err := ParseDstack(fmt.Appendf(nil, `[{"imr":0,"event_type":%d,"digest":"%x","event":"","event_payload":""}]`, uint32(EventEFIVariableDriverConfig), digest(crypto.SHA384, sb)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.SecureBoot(); err == nil || !strings.Contains(err.Error(), "not covered") {
			t.Error(err)
		}
	})
}

// record encodes one CEL record.
func record(n int, kind, register byte, alg byte, d, content []byte) []byte {
	t := func(typ byte, v []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(v))), v...)
	}
	return slices.Concat(t(0, binary.BigEndian.AppendUint64(nil, uint64(n))), t(kind, []byte{register}), t(3, t(alg, d)), content)
}

func TestCELNegatives(t *testing.T) {
	content := []byte{80, 0, 0, 0, 1, 'x'}
	h := func(b []byte) []byte { return digest(crypto.SHA384, b) }
	good := record(0, 108, 4, 0xC, h(content), content)
	parse := func(b []byte) (*Log, error) { return ParseCEL(b, crypto.SHA384) }
	if l, err := parse(append(bytes.Clone(good), record(1, 108, 4, 0xC, h(content), content)...)); err != nil || count(l)[Bound] != 2 || l.Events[1].Register != 3 {
		t.Fatal(l, err)
	}
	pc := func(typ Type, data string) []byte {
		body := slices.Concat([]byte{0, 0, 0, 0, 4}, binary.BigEndian.AppendUint32(nil, uint32(typ)), []byte{1, 0, 0, 0, byte(len(data))}, []byte(data))
		return append([]byte{5, 0, 0, 0, byte(len(body))}, body...)
	}
	if l, err := parse(record(0, 1, 7, 0xC, h([]byte("a")), pc(EventEFIAction, "a"))); err != nil || l.Registers != PCR || l.Events[0].Type != EventEFIAction || l.Events[0].Binding != Bound {
		t.Error(l, err)
	}
	if l, err := parse(record(0, 1, 7, 0xC, h([]byte("b")), pc(EventEFIAction, "a"))); err != nil || l.Events[0].Binding != Contradicted {
		t.Error(l, err)
	}
	if l, err := parse(record(0, 108, 4, 0xC, h([]byte("other")), content)); err != nil || l.Events[0].Binding != Contradicted {
		t.Error(l, err)
	}
	pcRaw := func(body ...byte) []byte { return append([]byte{5, 0, 0, 0, byte(len(body))}, body...) }
	edit := func(b []byte, i int, v byte) []byte { b = bytes.Clone(b); b[i] = v; return b }
	var many bytes.Buffer
	for i := range MaxEvents + 1 {
		many.Write(record(i, 108, 4, 0xC, h(content), content))
	}
	if l, err := parse(many.Bytes()[:many.Len()-len(good)]); err != nil || len(l.Events) != MaxEvents {
		t.Error(err)
	}
	if _, err := parse(make([]byte, MaxSize)); err == nil || strings.Contains(err.Error(), "the most is") {
		t.Error(err)
	}
	for _, r := range [][]byte{record(0, 108, 1, 0xC, h(content), content), record(0, 1, 23, 0xC, h(content), content)} {
		if _, err := parse(r); err != nil {
			t.Error(err)
		}
	}
	for name, x := range map[string]struct {
		log []byte
		why string
	}{
		"empty":                {nil, "empty"},
		"too large":            {make([]byte, MaxSize+1), "the most is"},
		"cut":                  {good[:len(good)-1], "truncated"},
		"record missing":       {record(1, 108, 4, 0xC, h(content), content), "record number"},
		"record twice":         {append(bytes.Clone(good), good...), "record number"},
		"register kind":        {record(0, 2, 4, 0xC, h(content), content), "neither a PCR nor an RTMR"},
		"RTMR 0":               {record(0, 108, 0, 0xC, h(content), content), "neither a PCR nor an RTMR"},
		"RTMR 5":               {record(0, 108, 5, 0xC, h(content), content), "neither a PCR nor an RTMR"},
		"PCR 24":               {record(0, 1, 24, 0xC, h(content), content), "neither a PCR nor an RTMR"},
		"both families":        {append(bytes.Clone(good), record(1, 1, 4, 0xC, h(content), content)...), "both PCRs and RTMRs"},
		"no SHA-384":           {record(0, 108, 4, 0xB, make([]byte, 32), content), "no SHA-384 digest"},
		"short digest":         {record(0, 108, 4, 0xC, make([]byte, 32), content), "with 32 bytes"},
		"unknown algorithm":    {record(0, 108, 4, 0x77, nil, content), "algorithm 0x77"},
		"malformed PC content": {record(0, 108, 4, 0xC, h(content), []byte{5, 0, 0, 0, 1, 0}), "truncated"},
		"PC content, no data":  {record(0, 108, 4, 0xC, h(content), pcRaw(0, 0, 0, 0, 4, 0, 0, 0, 4)), "truncated"},
		"PC content, type":     {record(0, 108, 4, 0xC, h(content), pcRaw(9, 0, 0, 0, 4, 0, 0, 0, 4, 1, 0, 0, 0, 0)), "malformed PC Client"},
		"PC content, size":     {record(0, 108, 4, 0xC, h(content), pcRaw(0, 0, 0, 0, 5, 0, 0, 0, 4, 4, 1, 0, 0, 0, 0)), "malformed PC Client"},
		"PC content, data":     {record(0, 108, 4, 0xC, h(content), pcRaw(0, 0, 0, 0, 4, 0, 0, 0, 4, 9, 0, 0, 0, 0)), "malformed PC Client"},
		"PC content, more":     {record(0, 108, 4, 0xC, h(content), pcRaw(0, 0, 0, 0, 4, 0, 0, 0, 4, 1, 0, 0, 0, 0, 7)), "malformed PC Client"},
		"number of a type":     {edit(good, 0, 9), "record number"},
		"register of 2 bytes":  {slices.Concat(good[:17], []byte{2, 4}, good[18:]), "register index of 2 bytes"},
		"digests of a type":    {edit(good, 19, 9), "field of type 9"},
		"digest cut":           {edit(good, 28, 49), "truncated"},
		"digest twice":         {slices.Concat(good[:23], []byte{106}, good[24:77], good[24:77], content), "appears twice"},
		"too many":             {many.Bytes(), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(x.log); err == nil || !strings.Contains(err.Error(), x.why) {
				t.Errorf("%v, want %q", err, x.why)
			}
		})
	}
}
