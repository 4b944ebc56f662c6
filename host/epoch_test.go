package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
)

// One document serves all clients until it is too old.
func TestEpoch(t *testing.T) {
	r := newRig(t)
	if status, code, _ := r.call("GET", "/v1/enclaves/e0/epoch", nil); status != 404 || code != "no_epoch" {
		t.Errorf("without epochs: %d %s", status, code)
	}
	var asked atomic.Int32
	r.enclave.mu.Lock()
	r.enclave.epoch = func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		if _, err := attestation.ParseEpoch(b); err != nil {
			t.Error(err)
		}
		asked.Add(1)
		io.WriteString(w, "evidence")
	}
	r.enclave.mu.Unlock()
	var mu sync.Mutex
	block, down := attestation.Epoch{Seqno: 7, RootHash: [32]byte{9}}, false
	r.cfg.Epochs = Epochs{Lifetime: time.Minute, Newest: func(context.Context) (attestation.Epoch, error) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return attestation.Epoch{}, errors.New("no liteserver")
		}
		return block, nil
	}}
	r.start()
	want := func(seqno uint32, times int32) {
		t.Helper()
		_, body, resp := r.call("GET", "/v1/enclaves/e0/epoch", nil)
		doc := attestation.Epoch{Seqno: seqno, RootHash: [32]byte{9}}.AppendEncoded(nil)
		if !bytes.Equal([]byte(body), append(doc, "evidence"...)) || resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%q", body)
		}
		if asked.Load() != times {
			t.Errorf("the enclave was asked %d times, want %d", asked.Load(), times)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { r.call("GET", "/v1/enclaves/e0/epoch", nil) })
	}
	wg.Wait()
	want(7, 1)
	mu.Lock()
	block.Seqno = 8
	mu.Unlock()
	r.advance(59 * time.Second)
	want(7, 1)
	r.advance(time.Second)
	want(8, 2)

	// What cannot be made is not remembered.
	r.advance(time.Minute)
	mu.Lock()
	down = true
	mu.Unlock()
	if status, code, _ := r.call("GET", "/v1/enclaves/e0/epoch", nil); status != 503 || code != "chain_down" {
		t.Errorf("chain down: %d %s", status, code)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	r.enclave.mu.Lock()
	good := r.enclave.epoch
	r.enclave.epoch = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(429)
		io.WriteString(w, `{"error":{"message":"m","type":"rate_limit_error","code":"busy"}}`)
	}
	r.enclave.mu.Unlock()
	if status, code, resp := r.call("GET", "/v1/enclaves/e0/epoch", nil); status != 429 || code != "busy" || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("enclave busy: %d %s, %v", status, code, resp.Header)
	}
	r.enclave.mu.Lock()
	r.enclave.epoch = good
	r.enclave.mu.Unlock()
	want(8, 3)
	if status, code, _ := r.call("GET", "/v1/enclaves/e9/epoch", nil); status != 404 || code != "unknown_enclave" {
		t.Errorf("unknown enclave: %d %s", status, code)
	}
}

func TestEpochConfigRefusals(t *testing.T) {
	r := newRig(t)
	for _, e := range []Epochs{{Lifetime: -1}, {Lifetime: time.Minute}} {
		c := r.cfg
		c.Epochs = e
		if _, err := New(t.Context(), c); err == nil || !strings.Contains(err.Error(), "epochs") {
			t.Errorf("%+v: %v", e, err)
		}
	}
}
