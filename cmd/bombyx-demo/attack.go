package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// An attack is one attempt and what came of it.
type attack struct {
	Name    string `json:"name"`
	Refused bool   `json:"refused"`
	By      string `json:"refused_by"`
	Reason  string `json:"reason"`
}

// attackAll plays a hostile host and a dishonest client, against the real
// programs, and wants every attempt refused for its own reason.
func (d *demo) attackAll(ctx context.Context) error {
	d.out.title("Attacks, each refused")
	other, err := d.parties.authority.NewNode(attestationtest.NodeConfig{Name: "node-b", GPUs: 1})
	if err != nil {
		return err
	}
	node := func(change func(*attestationtest.NodeConfig)) (*attestationtest.Node, error) {
		c := d.parties.node
		change(&c)
		return d.parties.authority.NewNode(c)
	}
	own, err := node(func(*attestationtest.NodeConfig) {})
	if err != nil {
		return err
	}
	debug, err := node(func(c *attestationtest.NodeConfig) { c.Debug = true })
	if err != nil {
		return err
	}
	old, err := node(func(c *attestationtest.NodeConfig) { c.Platform, c.Module = "OutOfDate", "UpToDate" })
	if err != nil {
		return err
	}
	var replayed []byte
	steps := []struct {
		name string
		want string // part of the reason, so that no attack passes for another
		by   string
		try  func() (string, error)
	}{
		{"GPU evidence of another node", "composite.report_data", "client", func() (string, error) {
			return d.fakeEvidence(ctx, func(nonce [32]byte, e *attestation.Evidence) ([]byte, error) {
				e.Devices = other.Devices(attestation.DeviceNonce(attestation.Statement(nonce, e.Keyset)))
				return e.Encode()
			})
		}},
		{"a replayed nonce", "nonce", "client", func() (string, error) {
			return d.fakeEvidence(ctx, func(nonce [32]byte, e *attestation.Evidence) ([]byte, error) {
				if replayed == nil {
					var err error
					if replayed, err = own.Collect(ctx, [32]byte{1}, e.Keyset); err != nil {
						return nil, err
					}
				}
				return replayed, nil
			})
		}},
		{"a debug TD", "debug", "client", func() (string, error) {
			return d.fakeEvidence(ctx, func(nonce [32]byte, e *attestation.Evidence) ([]byte, error) {
				return debug.Collect(ctx, nonce, e.Keyset)
			})
		}},
		{"an out-of-date platform, up-to-date module", "OutOfDate", "client", func() (string, error) {
			return d.fakeEvidence(ctx, func(nonce [32]byte, e *attestation.Evidence) ([]byte, error) {
				return old.Collect(ctx, nonce, e.Keyset)
			})
		}},
		{"a flipped bit in the answer", "altered or cut", "client", func() (string, error) {
			return d.spoilAnswer(ctx, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}},
		{"a truncated answer", "altered or cut", "client", func() (string, error) {
			return d.spoilAnswer(ctx, func(b []byte) []byte { return b[:len(b)-20] })
		}},
		{"a replayed request", "seen before", "enclave", func() (string, error) { return d.replayRequest(ctx) }},
		{"a forged voucher", "not signed", "host", func() (string, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return "", err
			}
			return d.sendVoucher(ctx, d.parties.channel.Address(), key)
		}},
		{"a voucher for another channel", "another channel", "host", func() (string, error) {
			c := d.parties.channel
			c.Salt++
			return d.sendVoucher(ctx, c.Address(), d.parties.key)
		}},
	}
	before := d.parties.transport.State()
	for _, s := range steps {
		reason, err := s.try()
		if err != nil {
			return unexpected(s.name, err)
		}
		if !strings.Contains(reason, s.want) {
			return unexpected(s.name, fmt.Errorf("refused for another reason than %q: %s", s.want, reason))
		}
		short := strings.TrimPrefix(reason, "nothing was sent: attestation: rejected: ")
		d.out.refused(s.name, fmt.Sprintf("by the %-8s %s", s.by+":", clip(short, 100)))
		d.summary.Attacks = append(d.summary.Attacks, attack{s.name, true, s.by, reason})
	}
	if after := d.parties.transport.State(); after != before {
		return unexpected("attacks", fmt.Errorf("the channel's books changed from %+v to %+v", before, after))
	}
	return nil
}

// hostile is a host's machine between client and host.
type hostile struct {
	next   http.RoundTripper
	path   string // suffix of the requests that it tampers with
	tamper func(req, answer []byte) ([]byte, error)
}

func (h *hostile) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, h.path) {
		return h.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := h.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		if answer, err = h.tamper(body, answer); err != nil {
			return nil, err
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	resp.ContentLength = int64(len(answer))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// fakeEvidence has a fresh client meet a host that answers with other
// evidence, and returns why the client refuses. Nothing may have been sealed.
func (d *demo) fakeEvidence(ctx context.Context, fake func(nonce [32]byte, genuine *attestation.Evidence) ([]byte, error)) (string, error) {
	cfg := d.clientConfig()
	sealed := false
	cfg.Trace.Sealed = func(int64) { sealed = true }
	cfg.Base = &hostile{http.DefaultTransport, "/evidence", func(nonce, answer []byte) ([]byte, error) {
		e, err := attestation.ParseEvidence(answer)
		if err != nil {
			return nil, err
		}
		return fake([32]byte(nonce), e)
	}}
	t, err := client.New(cfg)
	if err != nil {
		return "", err
	}
	_, err = d.chat(ctx, t, d.question, nil)
	var r *refusal
	if !errors.As(err, &r) || r.code != "attestation_failed" {
		return "", fmt.Errorf("%w: %v", errNotRefused, err)
	}
	if sealed {
		return "", errors.New("something was sealed before the verdict")
	}
	return r.message, nil
}

// spoilAnswer changes the sealed answer on its way. The client keeps its own
// books, as another client on the same channel would.
func (d *demo) spoilAnswer(ctx context.Context, change func([]byte) []byte) (string, error) {
	cfg := d.clientConfig()
	cfg.Payment.State = d.parties.transport.State()
	cfg.Trace.Voucher = func(v *channel.SignedVoucher) { d.summary.Vouchers = append(d.summary.Vouchers, v.Total) }
	cfg.Base = &hostile{http.DefaultTransport, "/sealed", func(_, answer []byte) ([]byte, error) { return change(answer), nil }}
	t, err := client.New(cfg)
	if err != nil {
		return "", err
	}
	answer, err := d.chat(ctx, t, "Hello", nil)
	if err == nil {
		return "", fmt.Errorf("%w: it answered %q", errNotRefused, answer)
	}
	return err.Error(), nil
}

// replayRequest sends the same sealed bytes again, as a host could.
func (d *demo) replayRequest(ctx context.Context) (string, error) {
	w := d.parties.wire
	w.mu.Lock()
	r, body := w.last, bytes.Clone(w.sent.Bytes())
	w.mu.Unlock()
	again := r.Clone(ctx)
	again.Body = io.NopCloser(bytes.NewReader(body))
	id := make([]byte, 16)
	rand.Read(id)
	again.Header.Set("Bombyx-Stream", hex.EncodeToString(id))
	again.Header.Set("Bombyx-Allot", "1")
	resp, err := http.DefaultTransport.RoundTrip(again)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return "", errNotRefused
	}
	return apierror.Read(resp).Message, nil
}

// sendVoucher sends the host a voucher that the channel's client did not mean.
func (d *demo) sendVoucher(ctx context.Context, a channel.Address, key ed25519.PrivateKey) (string, error) {
	v := channel.Voucher{GlobalID: d.parties.chain.GlobalID(), Channel: a, Total: deposit / 2}.Sign(key)
	wire, err := v.MarshalBinary()
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.parties.hostURL+"/v1/voucher", bytes.NewReader(wire))
	if err != nil {
		return "", err
	}
	w := d.parties.wire
	w.mu.Lock()
	req.Header.Set("Authorization", w.last.Header.Get("Authorization"))
	w.mu.Unlock()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return "", errNotRefused
	}
	return apierror.Read(resp).Message, nil
}
