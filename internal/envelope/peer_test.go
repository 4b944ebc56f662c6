package envelope

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/cloudflare/circl/hpke"
	"github.com/openpcc/ohttp"
	peerbhttp "github.com/openpcc/ohttp/encoding/bhttp"
)

// An answer of a peer's handler, in several flushes: long enough for several chunks, with a trailer.
func answerEcho(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, "no secret", http.StatusForbidden)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Trailer", "Receipt")
	w.Header().Set("X-Path", r.URL.RequestURI())
	w.WriteHeader(http.StatusCreated)
	http.NewResponseController(w).Flush()
	for chunk := range slices.Chunk(body, 3000) {
		w.Write(chunk)
		http.NewResponseController(w).Flush()
	}
	w.Header().Set("Receipt", fmt.Sprint(len(body)))
}

func checkEcho(t *testing.T, resp *http.Response, want []byte, trailer bool) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, want) {
		t.Errorf("%d bytes back of %d, or others", len(body), len(want))
	}
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Path") != "/v1/chat/completions?x=1" {
		t.Errorf("response %d %v", resp.StatusCode, resp.Header)
	}
	if trailer && resp.Trailer.Get("Receipt") != fmt.Sprint(len(want)) {
		t.Errorf("trailer %v", resp.Trailer)
	}
}

// unknownLength hides the length of a body, so that the peer takes its chunked format.
type unknownLength struct{ io.Reader }

// OpenPCC's client speaks to our receiver over HTTP.
func TestPeerClient(t *testing.T) {
	for _, k := range []KEM{X25519, XWing} {
		for _, a := range []AEAD{AES128GCM, AES256GCM, ChaCha20Poly1305} {
			t.Run(fmt.Sprint(k, a), func(t *testing.T) {
				_, r := newPair(t, k, a)
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
					if got := hr.Header.Get("Content-Type"); got != RequestMediaType {
						t.Errorf("Content-Type %q", got)
					}
					req, sealer, err := r.Open(hr.Context(), hr.Body)
					if err != nil {
						t.Error(err)
						http.Error(w, err.Error(), http.StatusBadRequest)
						return
					}
					w.Header().Set("Content-Type", ResponseMediaType)
					rw := sealer.Respond(w, http.NewResponseController(w).Flush)
					answerEcho(rw, req)
					if err := rw.Close(); err != nil {
						t.Error(err)
					}
				}))
				defer srv.Close()
				config, err := r.KeyConfigs()[0].AppendBinary(nil)
				if err != nil {
					t.Fatal(err)
				}
				var theirs ohttp.KeyConfig
				if err := theirs.UnmarshalBinary(config); err != nil {
					t.Fatal(err)
				}
				transport, err := ohttp.NewTransport(theirs, srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{0, 5, 1000, 100_000} {
					req := newRequest(t, unknownLength{bytes.NewReader(text(size))})
					req.Header.Set("Date", noon.Format(http.TimeFormat))
					resp, err := transport.RoundTrip(req)
					if err != nil {
						t.Fatal(size, err)
					}
					checkEcho(t, resp, text(size), true)
					resp.Body.Close()
				}
			})
		}
	}
}

// Our sender speaks to OpenPCC's gateway over HTTP.
func TestPeerGateway(t *testing.T) {
	defer slog.SetLogLoggerLevel(slog.SetLogLoggerLevel(slog.LevelError)) // it logs each request
	for _, k := range []KEM{X25519, XWing} {
		for _, a := range []AEAD{AES128GCM, AES256GCM, ChaCha20Poly1305} {
			t.Run(fmt.Sprint(k, a), func(t *testing.T) {
				pk, sk, err := hpke.KEM(k).Scheme().GenerateKeyPair()
				if err != nil {
					t.Fatal(err)
				}
				kp := ohttp.KeyPair{SecretKey: sk, KeyConfig: ohttp.KeyConfig{
					KeyID: 3, KemID: hpke.KEM(k), PublicKey: pk,
					SymmetricAlgorithms: []ohttp.SymmetricAlgorithm{{KDFID: hpke.KDF_HKDF_SHA256, AEADID: hpke.AEAD(a)}},
				}}
				decoder, err := peerbhttp.NewRequestDecoder(peerbhttp.MaxRequestChunkLen(MaxChunk))
				if err != nil {
					t.Fatal(err)
				}
				gateway, err := ohttp.NewGateway(kp, ohttp.WithRequestDecoder(decoder), ohttp.WithRequestValidator(nil))
				if err != nil {
					t.Fatal(err)
				}
				srv := httptest.NewServer(ohttp.Middleware(gateway, http.HandlerFunc(answerEcho)))
				defer srv.Close()
				configs, err := ohttp.KeyConfigs{kp.KeyConfig}.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				ours, err := ParseKeyConfigs(configs)
				if err != nil {
					t.Fatal(err)
				}
				s, err := NewSender(ours[0])
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{0, 5, 1000, MaxChunk - 100, 100_000} {
					for _, known := range []bool{true, false} {
						var body io.Reader = bytes.NewReader(text(size))
						if !known {
							body = unknownLength{body}
						}
						sealed, opener, err := s.Seal(newRequest(t, body))
						if err != nil {
							t.Fatal(err)
						}
						post, _ := http.NewRequestWithContext(t.Context(), "POST", srv.URL, nil)
						sealed.Apply(post)
						res, err := http.DefaultClient.Do(post)
						if err != nil {
							t.Fatal(err)
						}
						if res.StatusCode != 200 || res.Header.Get("Content-Type") != ResponseMediaType {
							b, _ := io.ReadAll(res.Body)
							t.Fatalf("%d bytes, known %v: %s %v %s", size, known, res.Status, res.Header, b)
						}
						resp, err := opener.Open(res.Body, nil)
						if err != nil {
							t.Fatal(err)
						}
						checkEcho(t, resp, text(size), false)
						resp.Body.Close()
					}
				}
			})
		}
	}
}
