package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/corked"
)

func proxyCommand(h *home) *cobra.Command {
	var o lineOptions
	var listen string
	var beyond bool
	c := &cobra.Command{Use: "proxy", Short: "Serve an OpenAI-compatible endpoint on this machine", Args: cobra.NoArgs,
		Long: `proxy serves /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings and
/v1/models on loopback, for every program that takes an OpenAI base URL. Each request is
attested, sealed, paid for and checked as "bombyx chat" does. It serves no web page, and
nothing but this machine: whoever reaches it reads the answers and spends the channel.

/v1/responses keeps nothing: send the whole conversation each time, without
previous_response_id (in the AI SDK, set providerOptions.openai.store to false).`,
		Example: `  bombyx proxy
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none python3 app.py`}
	o.flags(h, c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on; port 0 picks a free one")
	c.Flags().BoolVar(&beyond, "listen-beyond-loopback-unsafe", false, "allow --listen on an address that other machines reach, without authentication")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		addr, err := net.ResolveTCPAddr("tcp", listen)
		if err != nil {
			return cli.Errorf(cli.Usage, "write it as in 127.0.0.1:8080", "--listen: %w", err)
		}
		if !beyond && !addr.IP.IsLoopback() {
			return cli.Errorf(cli.Usage, "use 127.0.0.1; --listen-beyond-loopback-unsafe lets everybody who reaches the address spend your channel", "--listen %s is not a loopback address", listen)
		}
		l, err := h.dial(cmd, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		ln, err := net.ListenTCP("tcp", addr)
		if err != nil {
			return cli.Errorf(cli.Usage, "choose another --listen", "%w", err)
		}
		handler := client.Proxy(l)
		if beyond {
			handler = anyName(handler)
		}
		srv := &http.Server{Handler: corked.Handler(handler), ConnContext: corked.ConnContext, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
		cli.TuneServer()
		done := make(chan error, 1)
		go func() { done <- srv.Serve(corked.Listener(ln)) }()
		fmt.Fprintf(cmd.OutOrStdout(), "export OPENAI_BASE_URL=http://%s/v1 OPENAI_API_KEY=none\n", ln.Addr())
		select {
		case err = <-done:
		case <-l.Failed():
			// paying on without a record would be paying blindly: close says why
		case <-cmd.Context().Done():
		}
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(grace)
		srv.Close()
		return err
	}
	return c
}

// anyName lets requests for names other than loopback's through the proxy's guard. Web pages stay out.
func anyName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "127.0.0.1"
		next.ServeHTTP(w, r)
	})
}
