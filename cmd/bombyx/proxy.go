package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/corked"
)

func proxyCommand(h *home) *cobra.Command {
	var o lineOptions
	var listen, keyFile string
	var beyond bool
	c := &cobra.Command{Use: "proxy", Short: "Serve an OpenAI-compatible endpoint on this machine", Args: cobra.NoArgs,
		Long: `proxy serves /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings and
/v1/models on loopback, for every program that takes an OpenAI base URL. Each request is
attested, sealed, paid for and checked as "bombyx chat" does. It serves no web page, and
nothing but this machine. Whoever reaches it spends the channel: on a machine with other
users, --api-key-file has it ask for a key, which SDKs take as their API key.

/v1/responses keeps nothing: send the whole conversation each time, without
previous_response_id (in the AI SDK, set providerOptions.openai.store to false).

OpenAI's SDKs ask again by themselves only where nothing has been run. The AI SDK does after
most failures: set its maxRetries to 0, or what one has perhaps run may be paid for twice.`,
		Example: `  bombyx proxy
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none python3 app.py
  (umask 077; head -c 32 /dev/urandom | base64 > key); bombyx proxy --api-key-file key`}
	o.flags(h, c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on; port 0 picks a free one")
	c.Flags().StringVar(&keyFile, "api-key-file", "", "serve only who shows the key in this file (mode 600) as a bearer token")
	c.Flags().BoolVar(&beyond, "listen-beyond-loopback-unsafe", false, "allow --listen on an address that other machines reach, without encryption")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		addr, err := net.ResolveTCPAddr("tcp", listen)
		if err != nil {
			return cli.Errorf(cli.Usage, "write it as in 127.0.0.1:8080", "--listen: %w", err)
		}
		if !beyond && !addr.IP.IsLoopback() {
			return cli.Errorf(cli.Usage, "use 127.0.0.1; --listen-beyond-loopback-unsafe lets who reaches the address spend your channel, and who is in between read along", "--listen %s is not a loopback address", listen)
		}
		key, shown, err := readAPIKey(keyFile)
		if err != nil {
			return err
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
		handler := withKey(key, client.Proxy(l))
		if beyond {
			handler = anyName(handler)
		}
		srv := &http.Server{Handler: corked.Handler(handler), ConnContext: corked.ConnContext, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
		cli.TuneServer()
		done := make(chan error, 1)
		go func() { done <- srv.Serve(corked.Listener(ln)) }()
		fmt.Fprintf(cmd.OutOrStdout(), "export OPENAI_BASE_URL=http://%s/v1 OPENAI_API_KEY=%s\n", ln.Addr(), shown)
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

const leastKey = 16 // bytes

// readAPIKey returns the digest of the key in a file, nil without a file, and what a shell is to set OPENAI_API_KEY to.
func readAPIKey(file string) (digest *[32]byte, shown string, err error) {
	if file == "" {
		return nil, "none", nil
	}
	b, err := cli.ReadSecret(file)
	if err != nil {
		return nil, "", err
	}
	defer clear(b)
	key := bytes.TrimSpace(b)
	if len(key) < leastKey || bytes.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, "", cli.Errorf(cli.Usage, "head -c 32 /dev/urandom | base64 makes a good one", "%s holds no key of %d or more printable ASCII characters", file, leastKey)
	}
	sum := sha256.Sum256(key)
	return &sum, fmt.Sprintf(`"$(cat '%s')"`, strings.ReplaceAll(file, "'", `'\''`)), nil
}

// withKey serves those alone who show the key, everybody if there is none.
func withKey(digest *[32]byte, next http.Handler) http.Handler {
	if digest == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(shown))
		if subtle.ConstantTimeCompare(got[:], digest[:]) == 0 || !ok {
			apierror.New(401, "invalid_api_key", "the proxy wants its API key", "take it from the file that --api-key-file names").Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// anyName lets requests for names other than loopback's through the proxy's guard. Web pages stay out.
func anyName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "127.0.0.1"
		next.ServeHTTP(w, r)
	})
}
