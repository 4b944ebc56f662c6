package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bombyx-network/bombyx/host/ledger"
)

const prefix = "bombyx_host_"

// A metric's value comes from [host.Stats] or from a look when it is read. No
// label names a client, a channel or a request.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.GaugeValue}
}

// docs/operating.md, "Metrics", explains each.
var (
	requests       = counter("requests_total", "Requests of clients, by route.", "route")
	refused        = counter("refused_total", "Requests answered with an error, by its code.", "code")
	answers        = counter("answers_total", "Sealed requests that were admitted, by how they ended.", "outcome")
	requestBytes   = counter("request_bytes_total", "Bytes of sealed requests.")
	answerBytes    = counter("answer_bytes_total", "Bytes of sealed answers.")
	running        = gauge("running_requests", "Sealed requests that run, by enclave.", "enclave")
	sessions       = gauge("sessions", "Sessions of clients.")
	reserved       = gauge("reserved_nanogram", "What running requests may cost.")
	enclaveUp      = gauge("enclave_up", "Whether the enclave and its engine answer.", "enclave")
	drained        = gauge("enclave_drained", "Whether the enclave gets no new requests.", "enclave")
	evidence       = counter("evidence_requests_total", "Evidence documents asked of the enclave.", "enclave")
	evidenceErrors = counter("evidence_errors_total", "Evidence documents that the enclave did not make.", "enclave")
	chainUp        = gauge("chain_up", "Whether a liteserver gives a provable answer.")
	chainCalls     = counter("chain_calls_total", "Calls of the chain.", "call")
	chainErrors    = counter("chain_errors_total", "Calls of the chain that failed.", "call")
	lastBlock      = gauge("last_block_timestamp_seconds", "When the newest block seen was made.")
	claims         = counter("claims_total", "Claims, by result.", "result")
	claimFees      = counter("claim_fees_nanogram_total", "Fees of the transactions by which this process claimed.")
	lastClaim      = gauge("last_claim_timestamp_seconds", "When this process last claimed.")
	balance        = gauge("balance_nanogram", "What an account of the provider holds.", "account")
	ledgerUp       = gauge("ledger_up", "Whether the ledger answers.")
	openChannels   = gauge("open_channels", "Channels on the ledger that are not closed.")
	unsettled      = gauge("unsettled_channels", "Channels of which an earlier process may have left costs.")
	earnedTotal    = counter("earned_nanogram_total", "What the enclave's answers cost, by the ledger.", "enclave")
	authorised     = gauge("authorised_nanogram", "Totals of the highest vouchers of open channels, by the ledger.")
	claimed        = counter("claimed_nanogram_total", "What channels have paid, by the ledger.")
	unclaimed      = gauge("unclaimed_nanogram", "What was delivered on open channels and not claimed, by the ledger.")
	atRisk         = gauge("at_risk_nanogram", "Of the unclaimed, what no voucher covers or must be claimed within the margin.")
	lost           = counter("lost_nanogram_total", "What was delivered on closed channels and never claimed, by the ledger.")
)

// Describe implements [prometheus.Collector].
func (w *watch) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range []metric{requests, refused, answers, requestBytes, answerBytes, running, sessions, reserved, enclaveUp, drained, evidence, evidenceErrors, chainUp, chainCalls,
		chainErrors, lastBlock, claims, claimFees, lastClaim, balance, ledgerUp, openChannels, unsettled, earnedTotal, authorised, claimed, unclaimed, atRisk, lost} {
		ch <- m.Desc
	}
}

// Collect implements [prometheus.Collector].
func (w *watch) Collect(ch chan<- prometheus.Metric) {
	l, s := w.look(), w.Host.Stats()
	put := func(m metric, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, labels...)
	}
	each := func(m metric, counts map[string]uint64) {
		for label, n := range counts {
			put(m, float64(n), label)
		}
	}
	since := func(m metric, at time.Time) {
		if !at.IsZero() {
			put(m, float64(at.Unix()))
		}
	}
	each(requests, s.Requests)
	each(refused, s.Refused)
	each(answers, s.Answers)
	each(claims, s.Claims)
	put(requestBytes, float64(s.BytesIn))
	put(answerBytes, float64(s.BytesOut))
	put(sessions, float64(s.Sessions))
	put(reserved, float64(s.Reserved))
	put(claimFees, float64(s.ClaimFees))
	since(lastClaim, s.LastClaim)
	since(lastBlock, s.LastBlock)
	put(chainUp, is(l.chain == nil))
	for call, n := range s.Chain {
		put(chainCalls, float64(n.Made), call)
		put(chainErrors, float64(n.Failed), call)
	}
	for _, b := range l.balances {
		if b.Error == "" {
			put(balance, float64(b.Balance), b.Role)
		}
	}
	for i, e := range s.Enclaves {
		put(running, float64(e.Running), e.ID)
		put(evidence, float64(e.Evidence.Made), e.ID)
		put(evidenceErrors, float64(e.Evidence.Failed), e.ID)
		put(enclaveUp, is(l.health[i] == nil), e.ID)
		put(drained, is(e.Drained), e.ID)
	}
	if put(ledgerUp, is(l.err == nil)); l.err != nil {
		return
	}
	for _, e := range s.Enclaves {
		put(earnedTotal, float64(l.earned.all[e.ID]), e.ID)
	}
	put(openChannels, float64(l.totals.Open))
	put(unsettled, float64(l.totals.Unsettled))
	put(authorised, l.totals.Authorised)
	put(claimed, float64(l.totals.Claimed))
	put(unclaimed, float64(l.totals.Unclaimed))
	put(atRisk, float64(l.totals.AtRisk))
	put(lost, float64(l.totals.Lost))
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Writes measures a ledger's transactions.
type Writes struct {
	took, shared prometheus.Histogram
	failed       prometheus.Counter
}

// Measure begins to measure a ledger that nobody has taken yet.
func Measure(l *ledger.Ledger) *Writes {
	w := &Writes{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "ledger_commit_seconds", Help: "How long a transaction of the ledger took.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}}),
		shared: prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "ledger_commit_writes", Help: "How many writes shared a transaction of the ledger.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "ledger_commit_errors_total", Help: "Transactions of the ledger that failed."}),
	}
	l.OnCommit(func(took time.Duration, writes int, err error) {
		w.took.Observe(took.Seconds())
		w.shared.Observe(float64(writes))
		if err != nil {
			w.failed.Inc()
		}
	})
	return w
}
