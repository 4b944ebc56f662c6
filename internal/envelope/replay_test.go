package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

func date(at time.Time) []string { return []string{at.UTC().Format(http.TimeFormat)} }

func TestReplayRefused(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	wire, _ := sealAll(t, s, newRequest(t, nil))
	if _, _, err := r.Open(t.Context(), bytes.NewReader(wire)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if req, sealer, err := r.Open(t.Context(), bytes.NewReader(wire)); !errors.Is(err, ErrReplayed) || req != nil || sealer != nil {
			t.Errorf("replayed: %v, %v, %v", req, sealer, err)
		}
	}
	// Rotation does not make the guard forget.
	kp, err := GenerateKey(8, XWing, AES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	old := (*r.keys.Load())[7]
	if err := r.SetKeys(kp); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Open(t.Context(), bytes.NewReader(wire)); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("key taken out of use: %v", err)
	}
	if err := r.SetKeys(kp, old); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Open(t.Context(), bytes.NewReader(wire)); !errors.Is(err, ErrReplayed) {
		t.Errorf("key back in use: %v", err)
	}
	old.Close()
	if _, _, err := r.Open(t.Context(), bytes.NewReader(wire)); !errors.Is(err, ErrKeyClosed) {
		t.Errorf("closed key: %v", err)
	}
	if err := r.SetKeys(kp, kp); err == nil {
		t.Error("two keys with one identifier accepted")
	}
}

func TestReplayGuardDate(t *testing.T) {
	now := noon
	g := NewReplayGuard(time.Minute, 10, func() time.Time { return now })
	n := 0
	try := func(dates []string) error {
		n++
		return g.admit(fmt.Append(nil, n), dates)
	}
	for _, c := range []struct {
		dates []string
		ok    bool
	}{
		{date(noon), true},
		{date(noon.Add(time.Minute)), true},
		{date(noon.Add(-time.Minute)), true},
		{date(noon.Add(61 * time.Second)), false},
		{date(noon.Add(-61 * time.Second)), false},
		{nil, false},
		{[]string{"yesterday"}, false},
		{[]string{""}, false},
		{append(date(noon), date(noon)...), false},
		{date(time.Unix(0, 0)), false},
		{[]string{"Fri, 31 Dec 9999 23:59:59 GMT"}, false},
		{[]string{"Mon, 01 Jan 0001 00:00:00 GMT"}, false},
	} {
		err := try(c.dates)
		var de *DateError
		if c.ok != (err == nil) || !c.ok && (!errors.As(err, &de) || !de.Now.Equal(noon) || de.Window != time.Minute) {
			t.Errorf("%q: %v", c.dates, err)
		}
	}
}

// A clock that is turned back does not reopen the window, and one that jumps ahead forgets only what stays refused.
func TestReplayGuardClock(t *testing.T) {
	now := noon
	g := NewReplayGuard(time.Minute, 10, func() time.Time { return now })
	first := []byte("first")
	if err := g.admit(first, date(noon)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, -time.Hour, 0, 365 * 24 * time.Hour, 0, -time.Hour, time.Minute} {
		now = noon.Add(at)
		if err := g.admit(first, date(noon)); err == nil {
			t.Errorf("replayed with the clock at %+v", at)
		}
	}
	if len(g.seen) != 0 || len(g.due) != 0 {
		t.Errorf("%d entries kept after their time", len(g.seen))
	}
	// The clock that jumped ahead and back refuses honest requests rather than accept old ones.
	now = noon
	if err := g.admit([]byte("second"), date(noon)); err == nil {
		t.Error("the guard went back in time")
	}
}

// A full guard refuses new requests, still knows the old ones, and takes new ones when those have expired.
func TestReplayGuardFull(t *testing.T) {
	now := noon
	g := NewReplayGuard(time.Minute, 3, func() time.Time { return now })
	for i := range 3 {
		if err := g.admit([]byte{byte(i)}, date(noon.Add(time.Duration(i)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.admit([]byte{3}, date(noon)); !errors.Is(err, ErrGuardFull) {
		t.Errorf("full: %v", err)
	}
	if err := g.admit([]byte{0}, date(noon)); !errors.Is(err, ErrReplayed) {
		t.Errorf("full, replayed: %v", err)
	}
	now = noon.Add(61 * time.Second)
	if err := g.admit([]byte{3}, date(now)); err != nil {
		t.Errorf("one has expired: %v", err)
	}
	if err := g.admit([]byte{4}, date(now)); !errors.Is(err, ErrGuardFull) {
		t.Errorf("full again: %v", err)
	}
}

// Of many deliveries of one request at once, one gets through.
func TestReplayRace(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	wire, _ := sealAll(t, s, newRequest(t, nil))
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for range 16 {
		wg.Go(func() {
			if _, _, err := r.Open(t.Context(), bytes.NewReader(wire)); err == nil {
				mu.Lock()
				accepted++
				mu.Unlock()
			} else if !errors.Is(err, ErrReplayed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if accepted != 1 {
		t.Errorf("accepted %d times", accepted)
	}
}

// Errors about what is inside come with a sealer, so that the answer can be sealed; the rest do not.
func TestOpenErrors(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	seal := func(plain []byte) []byte {
		x, err := s.schedule.sender(s.pk)
		if err != nil {
			t.Fatal(err)
		}
		return append(append(bytes.Clone(s.schedule.header), x.enc...), sealChunks(t, &x.request, plain)...)
	}
	good, err := bhttp.AppendRequestHead(nil, func() *http.Request {
		req := newRequest(t, nil)
		req.Header.Set("Date", date(noon)[0])
		return req
	}(), 0)
	if err != nil {
		t.Fatal(err)
	}
	open := func(wire []byte) (*ResponseSealer, error) {
		_, sealer, err := r.Open(t.Context(), bytes.NewReader(wire))
		return sealer, err
	}
	if _, err := open(seal(good)); err != nil {
		t.Fatal(err)
	}
	late := newRequest(t, nil)
	late.Header.Set("Date", date(noon.Add(time.Hour))[0])
	lateWire, _ := sealAll(t, s, late)
	short, _ := sealAll(t, s, newRequest(t, nil))
	other, _ := newPair(t, X25519, AES256GCM)
	otherWire, _ := sealAll(t, other, newRequest(t, nil))
	unknown := func(at int) []byte {
		b, _ := sealAll(t, s, newRequest(t, nil))
		b[at] ^= 0x40
		return b
	}
	lowOrder, _ := sealAll(t, s, newRequest(t, nil))
	clear(lowOrder[headerSize : headerSize+32])
	var dateErr *DateError
	for name, c := range map[string]struct {
		wire   []byte
		is     func(error) bool
		sealed bool
	}{
		"Date outside the window":  {lateWire, func(err error) bool { return errors.As(err, &dateErr) }, true},
		"not binary HTTP":          {seal([]byte{9}), isErr(bhttp.ErrInvalid), true},
		"a response":               {seal([]byte{1, 0x40, 0xc8}), isErr(bhttp.ErrInvalid), true},
		"cut short by its sender":  {seal(good[:20]), isErr(bhttp.ErrInvalid), true},
		"empty":                    {seal(nil), isErr(bhttp.ErrInvalid), true},
		"garbage after the end":    {seal(append(bytes.Clone(good), 0, 0, 1)), isErr(bhttp.ErrInvalid), true},
		"Expect":                   {seal(bytes.Replace(good, []byte("\x0dauthorization\x0d"), []byte("\x06expect\x14100-c"), 1)), isErr(bhttp.ErrInvalid), true},
		"header too large":         {seal([]byte("\x00\x03GET\x05https\x01a\x01/\xbf\xff\xff\xff")), isErr(bhttp.ErrLimit), true},
		"unknown key identifier":   {unknown(0), isErr(ErrUnknownKey), false},
		"unknown KEM":              {unknown(2), isErr(ErrUnknownKey), false},
		"unknown KDF":              {unknown(4), isErr(ErrUnknownKey), false},
		"unknown AEAD":             {unknown(6), isErr(ErrUnknownKey), false},
		"another enclave's key":    {otherWire, isErr(ErrAuthentication), false},
		"a low-order share":        {lowOrder, isErr(ErrAuthentication), false},
		"nothing":                  {nil, isErr(ErrTruncated), false},
		"header only":              {short[:headerSize], isErr(ErrTruncated), false},
		"no chunk":                 {short[:headerSize+32], isErr(ErrTruncated), false},
		"a chunk of 16 TiB":        {append(bytes.Clone(short[:headerSize+32]), 0xd0, 0, 0, 0, 0, 0, 0, 0), isChunkSize, false},
		"a chunk of 16 KiB and 17": {append(bytes.Clone(short[:headerSize+32]), 0x80, 0, 0x40, 17), isChunkSize, false},
		"a chunk without data":     {append(bytes.Clone(short[:headerSize+32]), 16), isErr(ErrAuthentication), false},
		"an endless final chunk":   {append(bytes.Clone(short[:headerSize+33]), make([]byte, 20000)...), isChunkSize, false},
	} {
		t.Run(name, func(t *testing.T) {
			sealer, err := open(c.wire)
			if err == nil || !c.is(err) {
				t.Errorf("error %v", err)
			}
			if (sealer != nil) != c.sealed {
				t.Errorf("sealer %v with %v", sealer, err)
			}
		})
	}
}

func isErr(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func isChunkSize(err error) bool { return bytes.Contains([]byte(err.Error()), []byte("chunk of")) }

// What NewReplayGuard is not told, it takes from the defaults.
func TestReplayDefaults(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	g := NewReplayGuard(0, 0, func() time.Time { return noon })
	if err := g.admit([]byte{1}, date(noon.Add(-DefaultReplayWindow))); err != nil {
		t.Errorf("at the end of the window: %v", err)
	}
	var outside *DateError
	if err := g.admit([]byte{2}, date(noon.Add(-DefaultReplayWindow-time.Second))); !errors.As(err, &outside) {
		t.Errorf("a second outside the window: %v", err)
	}
	if err := NewReplayGuard(0, 0, nil).admit([]byte{3}, date(time.Now())); err != nil {
		t.Errorf("now, by the computer's clock: %v", err)
	}
}
