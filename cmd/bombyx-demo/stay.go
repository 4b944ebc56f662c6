package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/client"
)

// serveUntilInterrupted keeps the parties up and serves them to any OpenAI
// SDK, as bombyx proxy does.
func (d *demo) serveUntilInterrupted(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: client.Proxy(d.parties.transport), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	defer srv.Close()
	d.out.title("Yours to use, until you press Ctrl-C")
	d.out.raw("\nexport OPENAI_BASE_URL=http://" + l.Addr().String() + "/v1 OPENAI_API_KEY=unused\n\n")
	d.out.line("curl -N $OPENAI_BASE_URL/chat/completions -H 'Content-Type: application/json' \\")
	d.out.line(`  -d '{"model":"%s","stream":true,"messages":[{"role":"user","content":"What is TDX?"}]}'`, d.parties.model)
	<-ctx.Done()
	return nil
}
