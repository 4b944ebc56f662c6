package client_test

import (
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

func TestCloseTogetherSignsWhatTheReceiptsAddUpTo(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	params := channel.Params{Payee: channel.Address{1}, Client: channel.Address{2}, ClientKey: [32]byte(pub), CloseDelay: 60, ExpiresAt: 2_000_000_000}
	var got []byte
	refuse := false
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/session", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"token":"secret","authorised":100,"spent":30,"reserved":0,"voucher":""}`)
	})
	mux.HandleFunc("POST /v1/close", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || refuse {
			apierror.New(409, "requests_running", "requests run", "").Write(w)
			return
		}
		got, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	cfg := client.Config{Host: srv.URL, HostKey: make(ed25519.PublicKey, 32), Timeout: 10 * time.Second,
		Payment: client.Payment{Network: -3, Channel: params, Key: key, Deposit: 1000, State: client.PaymentState{Signed: 100, Settled: 40, Head: [32]byte{5}}}}
	if err := client.CloseTogether(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	a, err := channel.ParseAgreement(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verify([32]byte(pub)); err != nil || a.Total != 40 || a.Head != [32]byte{5} || a.GlobalID != -3 || a.Channel != params.Address() {
		t.Fatalf("agreed to %+v (%v)", a.Agreement, err)
	}
	refuse = true
	var f *client.Error
	if err := client.CloseTogether(t.Context(), cfg); !errors.As(err, &f) || f.Code != "requests_running" {
		t.Fatalf("refusal: %v", err)
	}
}

func TestFetchCardRefuses(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "no.card.atall") }))
	defer srv.Close()
	key := make(ed25519.PublicKey, 32)
	for name, c := range map[string]struct {
		cfg  client.Config
		code string
	}{
		"no card":           {client.Config{Host: srv.URL, HostKey: key}, "bad_card"},
		"nobody there":      {client.Config{Host: "http://127.0.0.1:1", HostKey: key}, "host_unreachable"},
		"no key":            {client.Config{Host: srv.URL}, ""},
		"plain http abroad": {client.Config{Host: "http://host.example", HostKey: key}, ""},
		"no URL":            {client.Config{Host: "host.example", HostKey: key}, ""},
	} {
		_, err := client.FetchCard(t.Context(), c.cfg)
		var f *client.Error
		if err == nil || errors.As(err, &f) != (c.code != "") || f != nil && f.Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A host that takes connections and says nothing does not keep a user from the next one for long.
func TestSilentHost(t *testing.T) {
	for _, c := range []struct{ timeout, want time.Duration }{{2 * time.Minute, 20 * time.Second}, {time.Second, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := client.FetchCard(t.Context(), client.Config{Host: "https://host.example", HostKey: make(ed25519.PublicKey, 32), Timeout: c.timeout, Base: silence{}})
			var fault *client.Error
			if took := time.Since(began); !errors.As(err, &fault) || fault.Code != "timeout" || took != c.want {
				t.Errorf("timeout of %v: %v after %v, want %v", c.timeout, err, took, c.want)
			}
		})
	}
}

type silence struct{}

func (silence) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
