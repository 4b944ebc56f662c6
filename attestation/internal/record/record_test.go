package record

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

func TestDecisive(t *testing.T) {
	const p, f, s, m = 'p', 'f', 's', 'm'
	for seq, want := range map[string]int{
		"": -1, "p": -1, "ppp": -1,
		"f": 0, "pfp": 1, "pff": 1, "smf": 2, "fsm": 0,
		"ps": 1, "pss": 1, "psm": 2, "pmsm": 1, "smm": 1,
	} {
		var r Run
		for _, k := range seq {
			switch k {
			case p:
				r.Pass("id", "", "")
			case f:
				r.Fail("id", "", "")
			case s:
				r.Skip("id", "", "")
			case m:
				r.Missing("id", "", "collateral")
			}
		}
		if got := r.decisive(); got != want {
			t.Errorf("%q: check %d decides, want %d", seq, got, want)
		}
	}
}

func TestReports(t *testing.T) {
	var r Run
	r.Pass("a", "1", "fine")
	r.Fail("b", "2", "%d of %d", 1, 2)
	r.Missing("c", "3", "CRL")
	r.Decide("d", "4", nil, "100%")
	r.Decide("e", "5", errors.New("100%"), "fine")
	want := []check.Check{
		{ID: "a", Clause: "1", Status: check.Pass, Seen: "fine"},
		{ID: "b", Clause: "2", Status: check.Fail, Detail: "1 of 2"},
		{ID: "c", Clause: "3", Status: check.Skip, Detail: "no CRL given", Missing: "CRL"},
		{ID: "d", Clause: "4", Status: check.Pass, Seen: "100%"},
		{ID: "e", Clause: "5", Status: check.Fail, Detail: "100%"},
	}
	for i, w := range want {
		if r.Checks[i] != w {
			t.Errorf("%+v, want %+v", r.Checks[i], w)
		}
		if got := r.Passed(w.ID); got != (w.Status == check.Pass) {
			t.Errorf("%s passed: %v", w.ID, got)
		}
	}
	if r.Passed("unheard of") {
		t.Error("a check that never ran has passed")
	}
}

func TestValidity(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC) }
	r := Run{Now: day(10)}
	for _, x := range []struct {
		from, until int
		err         string
	}{
		{1, 30, ""}, {10, 20, ""}, {5, 10, ""}, // both ends belong to it
		{11, 12, "it is valid from 2026-01-11T00:00:00Z on, appraised at 2026-01-10T00:00:00Z"},
		{8, 9, "it expired at 2026-01-09T00:00:00Z, appraised at 2026-01-10T00:00:00Z"},
	} {
		err := r.Within("it", "", day(x.from), day(x.until))
		if (err == nil) != (x.err == "") || err != nil && err.Error() != x.err {
			t.Errorf("%d to %d: %v, want %q", x.from, x.until, err, x.err)
		}
	}
	if !r.From.Equal(day(11)) || !r.Until.Equal(day(9)) {
		t.Errorf("valid from %v until %v", r.From, r.Until)
	}
	before := r
	if err := r.Current("list of", "CA", day(1), day(2)); err == nil || !strings.HasPrefix(err.Error(), `list of "CA" expired`) || r.From != before.From || r.Until != before.Until {
		t.Error("looking at a period changed the validity")
	}
}
