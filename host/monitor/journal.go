package monitor

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// hints say what to do about the host's warnings and errors: those of
// docs/operating.md, "Log lines".
var hints = map[string]string{
	"no card":                    "start the enclave; compare prices with the manifest",
	"enclave is not on the card": "start it; make prices in enclave.json and host.json equal",
	"enclave does not answer":    "see the enclave's log and GET /health",
	"chain does not answer":      "clients get 503 chain_down; check the network file and outgoing access",
	"ledger failed":              "free the disk or repair the database at once: nobody is served meanwhile",
	"cost unknown yet":           "bring the enclave, or the database, back before the host ends",
	"cost not recorded yet":      "bring the enclave, or the database, back before the host ends",
	"cost unknown, charging what the enclave said last": "you bear the difference",
	"what an earlier process left is not settled yet":   "start the enclave: the next look at the channel settles it",
	"channels are not released yet":                     "bring the database back: clients that moved to another process wait",
	"claims":                                            "read the error; a deadline may be near",
	"not published":                                     "check outgoing UDP, the clock, and network",
	"deadline is near":                                  "see that the claim passes",
	"deadline is near, and the chain does not answer":   "reach a liteserver before the deadline: what is not claimed then is lost",
	"deadline is near, and requests may run on":         "see the enclave's log: what it still delivers there is not paid",
	"close: chain does not answer":                      "the client can try again or close alone",
	"close failed":                                      "the client can try again or close alone",
	"drain: the list before holds":                      "read the error; write ids of enclaves in host.json, one a line",
	"collateral: clients get the old bundle":            "read the error; make the bundle anew before what is in the old one expires",
}

const (
	maxEntries = 32
	maxDetail  = 1000 // bytes
)

// A Journal passes log records on, and keeps the last warnings and errors. It
// adds to each what to do about it.
type Journal struct {
	slog.Handler
	*kept
}

type kept struct {
	lines *prometheus.CounterVec

	mu      sync.Mutex
	entries []Entry // the oldest first
}

// An Entry is a warning or an error, as often as it came.
type Entry struct {
	Time    time.Time `json:"time"` // of the last
	Count   int       `json:"count"`
	Level   string    `json:"level"` // WARN or ERROR
	Message string    `json:"message"`
	Detail  string    `json:"detail"` // of the last
	Hint    string    `json:"hint"`
}

// NewJournal returns a journal in front of a handler.
func NewJournal(next slog.Handler) *Journal {
	lines := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "log_lines_total", Help: "Log lines by level, WARN and above."}, []string{"level"})
	for _, level := range []slog.Level{slog.LevelWarn, slog.LevelError} {
		lines.WithLabelValues(level.String())
	}
	return &Journal{next, &kept{lines: lines}}
}

// Enabled implements [slog.Handler]: what the next one does not want is kept all the same.
func (j *Journal) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || j.Handler.Enabled(ctx, l)
}

// Handle implements [slog.Handler].
func (j *Journal) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		hint := hints[r.Message]
		j.keep(r, hint)
		if hint != "" {
			r = r.Clone()
			r.Add("hint", hint)
		}
	}
	if !j.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return j.Handler.Handle(ctx, r)
}

// WithAttrs and WithGroup keep what they derive in the same journal.
func (j *Journal) WithAttrs(a []slog.Attr) slog.Handler {
	return &Journal{j.Handler.WithAttrs(a), j.kept}
}

// WithGroup implements [slog.Handler].
func (j *Journal) WithGroup(name string) slog.Handler {
	return &Journal{j.Handler.WithGroup(name), j.kept}
}

func (k *kept) keep(r slog.Record, hint string) {
	var detail strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		if detail.Len() > 0 {
			detail.WriteString(", ")
		}
		detail.WriteString(a.Key + ": " + a.Value.String())
		return detail.Len() < maxDetail
	})
	e := Entry{Time: r.Time, Count: 1, Level: slog.LevelWarn.String(), Message: r.Message, Detail: detail.String(), Hint: hint}
	if r.Level >= slog.LevelError {
		e.Level = slog.LevelError.String()
	}
	e.Detail = e.Detail[:min(len(e.Detail), maxDetail)]
	k.lines.WithLabelValues(e.Level).Inc()
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := slices.IndexFunc(k.entries, func(old Entry) bool { return old.Message == e.Message && old.Level == e.Level }); i >= 0 {
		e.Count += k.entries[i].Count
		k.entries = slices.Delete(k.entries, i, i+1)
	} else if len(k.entries) == maxEntries {
		k.entries = slices.Delete(k.entries, 0, 1)
	}
	k.entries = append(k.entries, e)
}

// recent returns the entries, the newest first.
func (k *kept) recent() []Entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := append([]Entry{}, k.entries...) // never nil: the page goes through it
	slices.Reverse(list)
	return list
}
