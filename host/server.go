package host

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/internal/corked"
	"github.com/bombyx-network/bombyx/internal/direct"
)

// writeTimeout ends connections whose peer has stopped reading: not the reading
// of one answer, which HTTP/2's flow control holds back by itself and which
// takeWithin is for, but of all.
const writeTimeout = 30 * time.Second

// NewServer returns a server for clients: HTTP/1.1 and HTTP/2, over TLS, or
// without on loopback and over ADNL. Listeners without TLS should be corked.
func NewServer(h *Host) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: corked.Handler(h.Handler()), ConnContext: corked.ConnContext, Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		HTTP2: &http.HTTP2Config{WriteByteTimeout: writeTimeout}}
}

// EnclaveTransport speaks to an enclave, over connections that dial makes:
// HTTP/1.1 on kept connections, which costs both ends a third less than HTTP/2
// where a connection costs nothing to make.
func EnclaveTransport(dial func(context.Context) (net.Conn, error)) http.RoundTripper {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return direct.New(&http.Transport{Protocols: p, MaxIdleConnsPerHost: 1024, IdleConnTimeout: time.Minute, DisableCompression: true, ReadBufferSize: relayBuffer,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}, "enclave")
}
