package e2e

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/bhttp"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
)

// A forger is an enclave whose Evidence holds and whose receipts lie.
type forger struct {
	node     *attestationtest.Node
	opener   *envelope.Receiver
	signing  ed25519.PrivateKey
	encoded  []byte
	evidence [32]byte
	prices   [32]byte
	manifest [32]byte
	lie      func(*receipt.Receipt) (string, bool) // the serialized receipt, if it says so
}

const forged = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\ndata: [DONE]\n\n"

func newForger(t *testing.T) *forger {
	t.Helper()
	a := attestationtest.New("e2e")
	node, err := a.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := envelope.GenerateKey(1, envelope.XWing, envelope.AES256GCM, envelope.ChaCha20Poly1305)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{node: node}
	if f.opener, err = envelope.NewReceiver(envelope.NewReplayGuard(time.Minute, 0, time.Now), bhttp.Limits{}, keys); err != nil {
		t.Fatal(err)
	}
	configs, err := envelope.MarshalKeyConfigs([]envelope.KeyConfig{keys.Config()})
	if err != nil {
		t.Fatal(err)
	}
	pub, signing, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f.signing = signing
	if f.prices, err = Prices.Digest(); err != nil {
		t.Fatal(err)
	}
	k := keyset.Keyset{KeyConfigs: configs, ReceiptKey: pub, NotAfter: time.Now().Add(time.Hour).Truncate(time.Second).UTC(),
		Build: sha256.Sum256([]byte("build")), Config: sha256.Sum256([]byte("config"))}
	f.encodeWith(t, k)
	return f
}

func (f *forger) encodeWith(t *testing.T, k keyset.Keyset) {
	t.Helper()
	// The manifest is the stack's own: one model, as Start states it.
	s := start(t, Options{Engine: &Script{}})
	rec := httptest.NewRecorder()
	s.Enclave.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/manifest", nil))
	f.manifest = sha256.Sum256(rec.Body.Bytes())
	k.ModelManifest = f.manifest
	var err error
	if f.encoded, err = k.Encode(); err != nil {
		t.Fatal(err)
	}
}

func (f *forger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/evidence":
		var nonce [32]byte
		io.ReadFull(r.Body, nonce[:])
		doc, err := f.node.Collect(r.Context(), nonce, f.encoded)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		f.evidence = sha256.Sum256(doc)
		w.Write(doc)
	case "/sealed":
		inner, sealer, err := f.opener.Open(r.Context(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		body, _ := io.ReadAll(inner.Body)
		rw := sealer.Respond(w, http.NewResponseController(w).Flush)
		w.Header().Set("Content-Type", envelope.ResponseMediaType)
		w.Header().Set("Trailer", "Bombyx-Cost, Bombyx-Tab")
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.Header().Set("Trailer", "Bombyx-Receipt")
		rw.WriteHeader(200)
		io.WriteString(rw, forged)
		usage := price.Usage{Prompt: 10, Completion: 5}
		cost, _ := Prices[Model].Cost(usage)
		rec := receipt.Receipt{Version: 1, ID: inner.Header.Get("Bombyx-Id"), Channel: inner.Header.Get("Bombyx-Channel"), Evidence: f.evidence,
			Manifest: f.manifest, Model: Model, Request: sha256.Sum256(body), Answer: sha256.Sum256([]byte(forged)), Usage: usage,
			Prices: f.prices, Cost: cost, Finish: receipt.Complete, Time: time.Now().Unix()}
		s, done := f.lie(&rec)
		if !done {
			if s, err = receipt.Sign(&rec, f.signing); err != nil {
				panic(err)
			}
		}
		if s != "" {
			rw.Header().Set("Bombyx-Receipt", s)
		}
		rw.Close()
		w.Header().Set("Bombyx-Cost", "60")
		w.Header().Set("Bombyx-Tab", "0000000000000001 60")
	case "/settle":
		if r.Header.Get("Bombyx-Stream") == "" {
			w.WriteHeader(404)
			io.WriteString(w, `{"error":{"message":"nothing ran yet","code":"unknown_stream"}}`)
			return
		}
		w.Header().Set("Bombyx-Cost", "60")
		w.Header().Set("Bombyx-Tab", "0000000000000001 60")
	default:
		http.NotFound(w, r)
	}
}

// Every lie that a receipt can tell is refused: the answer does not end well,
// and what it claims is not settled.
func TestForgedReceipts(t *testing.T) {
	f := newForger(t)
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	o := Options{Engine: &Script{}, Window: 1000, Between: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/manifest" {
				return rt.RoundTrip(r)
			}
			to := r.Clone(r.Context())
			to.URL.Host, to.Host = srv.Listener.Addr().String(), ""
			return http.DefaultTransport.RoundTrip(to)
		})
	}}
	say := func(change func(*receipt.Receipt)) func(*receipt.Receipt) (string, bool) {
		return func(r *receipt.Receipt) (string, bool) { change(r); return "", false }
	}
	var first string
	_, stranger, _ := ed25519.GenerateKey(nil)
	ask := func(lie func(*receipt.Receipt) (string, bool)) (string, client.PaymentState, error) {
		t.Helper()
		f.lie = lie
		s := start(t, o)
		resp, err := post(s, streaming)
		if err != nil {
			t.Fatal(err)
		}
		body, err := read(t, resp)
		if resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
		return body, s.Client.State(), err
	}
	body, st, err := ask(func(r *receipt.Receipt) (string, bool) {
		first, _ = receipt.Sign(r, f.signing)
		return first, true
	})
	if err != nil || !strings.HasSuffix(body, "[DONE]\n\n") || st.Settled != 60 {
		t.Fatalf("an honest receipt: %q, %v, %+v", body, err, st)
	}
	flipped := []byte(first)
	flipped[len(flipped)/2] ^= 1
	for name, lie := range map[string]func(*receipt.Receipt) (string, bool){
		"none":                    func(*receipt.Receipt) (string, bool) { return "", true },
		"garbage":                 func(*receipt.Receipt) (string, bool) { return "x.y.z", true },
		"of another request":      func(*receipt.Receipt) (string, bool) { return first, true },
		"altered":                 func(*receipt.Receipt) (string, bool) { return string(flipped), true },
		"by another key":          func(r *receipt.Receipt) (string, bool) { s, _ := receipt.Sign(r, stranger); return s, true },
		"another id":              say(func(r *receipt.Receipt) { r.ID = strings.Repeat("0", 32) }),
		"another channel":         say(func(r *receipt.Receipt) { r.Channel = "0:" + strings.Repeat("0", 64) }),
		"other evidence":          say(func(r *receipt.Receipt) { r.Evidence[0] ^= 1 }),
		"another request":         say(func(r *receipt.Receipt) { r.Request[0] ^= 1 }),
		"another answer":          say(func(r *receipt.Receipt) { r.Answer[0] ^= 1 }),
		"another model":           say(func(r *receipt.Receipt) { r.Model = "cheaper-model" }),
		"another manifest":        say(func(r *receipt.Receipt) { r.Manifest[0] ^= 1 }),
		"another price list":      say(func(r *receipt.Receipt) { r.Prices[0] ^= 1 }),
		"more than the tokens":    say(func(r *receipt.Receipt) { r.Cost++ }),
		"more, and cancelled":     say(func(r *receipt.Receipt) { r.Cost++; r.Finish = receipt.Cancelled }),
		"less than the tokens":    say(func(r *receipt.Receipt) { r.Cost-- }),
		"more than was allotted":  say(func(r *receipt.Receipt) { r.Cost, r.Usage.Completion = 1001, 100 }),
		"tokens beyond the limit": say(func(r *receipt.Receipt) { r.Usage.Completion = 1 << 40; r.Cost = 1 << 50 }),
	} {
		body, st, err := ask(lie)
		if !errors.Is(err, client.ErrReceipt) || strings.Contains(body, "[DONE]") {
			t.Errorf("%s: %q, %v", name, body, err)
		}
		if st.Settled != 0 || st.Head != [32]byte{} || st.Signed > 1000 {
			t.Errorf("%s: it cost %+v", name, st)
		}
	}
}
