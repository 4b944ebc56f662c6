// Package fetch gets from the makers of the hardware what a piece of Evidence needs to be appraised: Intel's PCS or a PCCS,
// AMD's KDS, NVIDIA's RIM service and OCSP responder. Nothing that it returns is trusted; it goes into a collateral.Bundle.
//
// What was fetched is kept as files, each a saved HTTP response that "bombyx verify --collateral DIR" reads as it is.
// HTTPS_PROXY and NO_PROXY are obeyed.
package fetch

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// Services says where to ask. A field left empty stands for the maker's own service.
type Services struct {
	PCS  string // Intel PCS or a PCCS, with or without "/sgx/certification/v4"
	Root string // Intel's root CA CRL, the whole URL; with a PCS given, its own copy stands in
	KDS  string // AMD Key Distribution Service
	RIM  string // NVIDIA RIM service
	OCSP string // NVIDIA OCSP responder, the whole URL
}

// sgxV4 is the path of version 4 of Intel's API, as PCCS addresses are often written.
const sgxV4 = "/sgx/certification/v4"

// The makers' own services.
const (
	IntelPCS   = "https://api.trustedservices.intel.com"
	IntelRoot  = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	AMDKDS     = "https://kdsintf.amd.com"
	NVIDIARIM  = "https://rim.attestation.nvidia.com"
	NVIDIAOCSP = "https://ocsp.ndis.nvidia.com"
)

// Config configures a Fetcher. The zero value works, without a cache.
type Config struct {
	Services Services
	// Dir keeps responses between runs; empty keeps none. It is created when missing, for the user alone.
	Dir string
	// MaxAge is how long a response in Dir is used before it is asked for again; 0 means 12 hours. One that has expired by its
	// own words is asked for again at once.
	MaxAge time.Duration
	// Interval is the least time between two requests to one host; 0 means 200 ms. AMD's service refuses more than one
	// request every few seconds for one chip.
	Interval time.Duration
	// Attempts is how often a request is tried that fails for reasons that may pass; 0 means 4.
	Attempts int
	// Progress hears of every request before it is made; nil is silence. Several goroutines call it when several fetch.
	Progress func(url string)
	// Client makes the requests; nil means one with a timeout of 30 s that obeys the proxy variables of the environment. Where it
	// leaves redirects open, three are followed, and none from HTTPS to anything else.
	Client *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sleep waits; nil means a timer. It returns early with the context's error.
	Sleep func(context.Context, time.Duration) error
}

// A Fetcher fetches collateral. It is safe for concurrent use. A host that it could not reach it does not try again: make a new
// Fetcher for that.
type Fetcher struct {
	config Config

	mu   sync.Mutex
	next map[string]time.Time // by host: when it may be asked again
	down map[string]error     // by host: why it could not be reached, so that nobody waits for it twice
}

// New returns a Fetcher.
func New(c Config) *Fetcher {
	if pccs := strings.TrimSuffix(strings.TrimSuffix(c.Services.PCS, "/"), sgxV4); pccs != "" {
		c.Services.PCS = pccs
		if c.Services.Root == "" {
			c.Services.Root = pccs + sgxV4 + "/rootcacrl" // in a PCCS alone; Intel's PCS leaves it to the CRL's own URL
		}
	}
	for _, d := range []struct {
		field *string
		value string
	}{{&c.Services.PCS, IntelPCS}, {&c.Services.Root, IntelRoot}, {&c.Services.KDS, AMDKDS}, {&c.Services.RIM, NVIDIARIM}, {&c.Services.OCSP, NVIDIAOCSP}} {
		if *d.field == "" {
			*d.field = d.value
		}
		*d.field = strings.TrimSuffix(*d.field, "/")
	}
	if c.MaxAge == 0 {
		c.MaxAge = 12 * time.Hour
	}
	if c.Interval == 0 {
		c.Interval = 200 * time.Millisecond
	}
	if c.Attempts == 0 {
		c.Attempts = 4
	}
	client := http.Client{Timeout: 30 * time.Second}
	if c.Client != nil {
		client = *c.Client
	}
	if client.CheckRedirect == nil {
		client.CheckRedirect = redirect
	}
	c.Client = &client
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	return &Fetcher{config: c, next: map[string]time.Time{}, down: map[string]error{}}
}

// redirect keeps a request, which names a platform, from those on the way.
func redirect(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) > 3:
		return errors.New("more than 3 redirects")
	case via[0].URL.Scheme == "https" && next.URL.Scheme != "https":
		return fmt.Errorf("a redirect from HTTPS to %s", next.URL.Redacted())
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A StatusError is an answer of a service other than success.
type StatusError struct {
	URL  string
	Code int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("fetch: %s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// For fetches what appraising data takes; data is anything that attestation.Recognise understands. Certificates is the chain
// of a bare device report, nil otherwise. It returns inputs for collateral.New, as many as it could get, together with the
// errors of the others joined: what is missing shows in the appraisal.
func (f *Fetcher) For(ctx context.Context, data, certificates []byte) ([][]byte, error) {
	p, err := attestation.TakeApart(data, certificates)
	if err != nil {
		return nil, err
	}
	g := &gathering{f: f, ctx: ctx, seen: map[string]bool{}}
	switch {
	case p.CPU.Quote == nil: // a bare device report
	case p.CPU.Kind == attestation.CPUSNP:
		g.amd(p.CPU.Quote, len(p.CPU.Certificates) > 0)
	default:
		g.intel(p.CPU.Quote)
	}
	for _, d := range p.Devices {
		g.nvidia(d.Report, d.Certificates)
	}
	return g.inputs, errors.Join(g.errs...)
}

// gathering collects the inputs for one piece of Evidence.
type gathering struct {
	f      *Fetcher
	ctx    context.Context
	inputs [][]byte
	errs   []error
	seen   map[string]bool
}

func (g *gathering) fail(err error) { g.errs = append(g.errs, err) }

func (g *gathering) get(url string) []byte {
	if g.seen[url] {
		return nil
	}
	g.seen[url] = true
	in, err := g.f.get(g.ctx, url)
	if err != nil {
		g.fail(err)
		return nil
	}
	g.inputs = append(g.inputs, in)
	return in
}

func (g *gathering) intel(quote []byte) {
	q, err := dcap.ParseQuote(quote)
	if err != nil {
		g.fail(err)
		return
	}
	kind := "sgx"
	if q.TEEType == dcap.TEETDX {
		kind = "tdx"
	}
	s := g.f.config.Services
	g.get(s.PCS + "/" + kind + "/certification/v4/qe/identity")
	g.get(s.Root)
	if len(q.PCKChain) == 0 {
		g.fail(errors.New("fetch: the quote carries no PCK certificate, so that nothing names its platform"))
		return
	}
	leaf, err := x509.ParseCertificate(q.PCKChain[0])
	if err != nil {
		g.fail(err)
		return
	}
	pck, err := dcap.ParsePCK(leaf)
	if err != nil {
		g.fail(err)
		return
	}
	ca := "platform"
	if strings.Contains(pck.CA, "Processor") {
		ca = "processor"
	}
	g.get(s.PCS + "/" + kind + "/certification/v4/tcb?fmspc=" + hex.EncodeToString(pck.FMSPC[:]))
	g.get(s.PCS + sgxV4 + "/pckcrl?ca=" + ca + "&encoding=der")
}

func (g *gathering) amd(report []byte, hasKey bool) {
	r, err := snp.ParseReport(report)
	if err != nil {
		g.fail(err)
		return
	}
	kds := g.f.config.Services.KDS + "/vcek/v1/"
	if r.SigningKey == snp.VLEK {
		kds = g.f.config.Services.KDS + "/vlek/v1/"
	}
	product, err := r.Product()
	if err != nil {
		// Version 2 reports do not name their processor; all of them are from Milan or Genoa.
		for _, p := range []snp.Product{snp.Milan, snp.Genoa} {
			g.get(kds + string(p) + "/crl")
		}
		if !hasKey {
			g.fail(fmt.Errorf("fetch: the endorsement key cannot be asked for: %w", err))
		}
		return
	}
	g.get(kds + string(product) + "/crl")
	if hasKey || r.SigningKey == snp.VLEK {
		return // a VLEK's certificate only its cloud provider has
	}
	id, tcb := r.ChipID[:], r.ReportedTCB.Parts(product)
	q := fmt.Sprintf("?blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", tcb.BootLoader, tcb.TEE, tcb.SNP, tcb.Microcode)
	if product == snp.Turin {
		id = id[:8]
		q = fmt.Sprintf("?fmcSPL=%d&", tcb.FMC) + q[1:]
	}
	g.get(kds + string(product) + "/" + hex.EncodeToString(id) + q)
}

func (g *gathering) nvidia(report, certificates []byte) {
	r, err := nvidia.ParseReport(report)
	if err != nil {
		g.fail(err)
		return
	}
	chain, err := nvidia.ParseChain(certificates, nvidia.ChainLength)
	if err != nil {
		g.fail(err)
		return
	}
	model, _, _ := strings.Cut(chain[0].Subject.CommonName, " ")
	for _, id := range []string{r.DriverRIMID(model), r.VBIOSRIMID()} {
		if id == "" {
			continue
		}
		in := g.get(g.f.config.Services.RIM + "/v1/rim/" + url.PathEscape(id))
		if in == nil {
			continue
		}
		b, err := collateral.New(in)
		if err != nil {
			g.fail(fmt.Errorf("fetch: %w", err))
			continue
		}
		for _, rim := range b.RIMs() {
			g.revocation(rim.Signers(), 0)
		}
	}
	g.revocation(chain, 1) // nobody answers for the leaf
}

// revocation asks about every certificate of a chain from the given one up to the root.
func (g *gathering) revocation(chain []*x509.Certificate, from int) {
	for i := from; i < len(chain)-1; i++ {
		key := fmt.Sprintf("ocsp %x", sha256.Sum256(chain[i].Raw))
		if g.seen[key] {
			continue
		}
		g.seen[key] = true
		in, err := g.f.ocsp(g.ctx, chain[i], chain[i+1])
		if err != nil {
			g.fail(err)
			continue
		}
		g.inputs = append(g.inputs, in)
	}
}

var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2} // id-pkix-ocsp-nonce

// ocsp asks NVIDIA's responder about one certificate (RFC 6960), with a nonce (RFC 9654). Answers are not kept between
// runs.
func (f *Fetcher) ocsp(ctx context.Context, cert, issuer *x509.Certificate) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("fetch: OCSP for %q: %w", cert.Subject.CommonName, err)
	}
	plain, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA384})
	if err != nil {
		return fail(err)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	request, err := withNonce(plain, nonce)
	if err != nil {
		return fail(err)
	}
	_, body, err := f.do(ctx, http.MethodPost, f.config.Services.OCSP, "application/ocsp-request", request)
	if err != nil {
		return nil, err
	}
	// The answer is verified where it is used. That it is to this request only this place can know: what is signed must say so.
	answer, err := nvidia.ReadOCSP(body)
	if err != nil {
		return fail(err)
	}
	if !bytes.Contains(answer.Signed, nonce) {
		return fail(errors.New("the answer does not carry the nonce of the request"))
	}
	return body, nil
}

// withNonce adds the nonce extension to an OCSP request without extensions.
func withNonce(request, nonce []byte) ([]byte, error) {
	var outer, tbs cryptobyte.String
	in := cryptobyte.String(request)
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) || !in.Empty() || !outer.Empty() {
		return nil, errors.New("not a plain OCSP request")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidNonce)
						b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.Bytes()
}

// inForce tells whether nothing that a kept response holds has expired.
func (f *Fetcher) inForce(response []byte) bool {
	b, err := collateral.New(response)
	return err == nil && !slices.ContainsFunc(b.Items(), func(i collateral.Item) bool { return !i.Until.IsZero() && f.config.Now().After(i.Until) })
}

// get returns a saved HTTP response, from the cache while it is young and in force.
func (f *Fetcher) get(ctx context.Context, target string) ([]byte, error) {
	path := ""
	if f.config.Dir != "" {
		name := sha256.Sum256([]byte(target))
		path = filepath.Join(f.config.Dir, hex.EncodeToString(name[:16])+".http")
		if info, err := os.Stat(path); err == nil && f.config.Now().Sub(info.ModTime()) < f.config.MaxAge && info.Size() <= collateral.MaxItem+maxHead {
			if b, err := os.ReadFile(path); err == nil && f.inForce(b) {
				return b, nil
			}
		}
	}
	header, body, err := f.do(ctx, http.MethodGet, target, "", nil)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	for name, values := range header {
		if len(values) == 1 && strings.HasSuffix(strings.ToLower(name), "issuer-chain") && len(values[0]) < maxHead {
			fmt.Fprintf(&b, "%s: %s\r\n", name, values[0])
		}
	}
	b.WriteString("\r\n")
	b.Write(body)
	// An answer that is no collateral, such as a captive portal's page, must not stay in the cache.
	if _, err := collateral.New(b.Bytes()); err != nil {
		return nil, fmt.Errorf("fetch: %s did not answer with collateral: %w", target, err)
	}
	if path != "" {
		if err := save(path, b.Bytes(), f.config.Now()); err != nil {
			return nil, fmt.Errorf("fetch: cache: %w", err)
		}
	}
	return b.Bytes(), nil
}

// maxHead bounds one header.
const maxHead = 32 << 10

// save writes a file whole or not at all.
func save(path string, b []byte, now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(path), ".fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.Write(b)
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(t.Name(), now, now); err != nil {
		return err
	}
	return os.Rename(t.Name(), path)
}

// do makes one request, politely: no faster than Interval, and again after a pause when the service is busy.
func (f *Fetcher) do(ctx context.Context, method, target, contentType string, body []byte) (http.Header, []byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch: %w", err)
	}
	f.mu.Lock()
	last := f.down[u.Host]
	f.mu.Unlock()
	if last != nil {
		return nil, nil, fmt.Errorf("fetch: %s was not asked for: %w", target, last)
	}
	for attempt := range f.config.Attempts {
		if err := f.turn(ctx, u.Host); err != nil {
			return nil, nil, err
		}
		request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
		if err != nil {
			return nil, nil, fmt.Errorf("fetch: %w", err)
		}
		if contentType != "" {
			request.Header.Set("Content-Type", contentType)
		}
		if f.config.Progress != nil {
			f.config.Progress(target)
		}
		pause := time.Second << attempt
		response, err := f.config.Client.Do(request)
		if err == nil {
			var content []byte
			content, err = io.ReadAll(io.LimitReader(response.Body, collateral.MaxItem+1))
			response.Body.Close()
			switch {
			case err != nil:
			case len(content) > collateral.MaxItem:
				return nil, nil, fmt.Errorf("fetch: %s answered with more than %d bytes", target, collateral.MaxItem)
			case response.StatusCode == http.StatusOK:
				return response.Header, content, nil
			default:
				err = &StatusError{target, response.StatusCode}
				if response.StatusCode != http.StatusTooManyRequests && response.StatusCode < 500 {
					return nil, nil, err
				}
				if s, e := strconv.Atoi(response.Header.Get("Retry-After")); e == nil && s >= 0 && s <= 60 {
					pause = time.Duration(s) * time.Second
				}
			}
		}
		last = err
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if attempt+1 < f.config.Attempts {
			if err := f.config.Sleep(ctx, pause); err != nil {
				return nil, nil, err
			}
		}
	}
	if status := new(StatusError); !errors.As(last, &status) {
		f.mu.Lock()
		f.down[u.Host] = last
		f.mu.Unlock()
	}
	return nil, nil, fmt.Errorf("fetch: gave up after %d attempts: %w", f.config.Attempts, last)
}

// turn waits until host may be asked again.
func (f *Fetcher) turn(ctx context.Context, host string) error {
	f.mu.Lock()
	now := f.config.Now()
	at := f.next[host]
	if at.Before(now) {
		at = now
	}
	f.next[host] = at.Add(f.config.Interval)
	f.mu.Unlock()
	if wait := at.Sub(now); wait > 0 {
		return f.config.Sleep(ctx, wait)
	}
	return nil
}
