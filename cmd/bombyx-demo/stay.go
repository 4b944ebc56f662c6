package main

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/bombyx-network/bombyx/client"
)

// serveUntilInterrupted keeps the parties up and serves them to any OpenAI
// SDK, as bombyx proxy does. For bombyx itself it leaves a home directory.
func (d *demo) serveUntilInterrupted(ctx context.Context) error {
	home, err := d.makeHome()
	if err != nil {
		return err
	}
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
	p := &d.parties
	d.out.raw("\nOr be a user of this network from the beginning, in another terminal:\n\nexport BOMBYX_HOME=" + home + "\n")
	if exe, err := os.Executable(); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(exe), "bombyx")); err == nil {
			d.out.raw("export PATH=" + filepath.Dir(exe) + ":$PATH\n")
		}
	}
	d.out.raw("\n")
	for _, line := range []string{
		"bombyx wallet new",
		`curl -d '{"address":"UQ...","amount":"5"}' -H 'Content-Type: application/json' ` + p.control + "/fund",
		"bombyx host add " + p.hostURL + " " + hex.EncodeToString(p.hostKey),
		"bombyx channel open 1",
		`bombyx chat "What is TDX?"`,
		"bombyx channel close --alone",
		`curl -d '{"seconds":60}' -H 'Content-Type: application/json' ` + p.control + "/advance",
		"bombyx channel close",
	} {
		d.out.line("%s", line)
	}
	<-ctx.Done()
	return nil
}

// makeHome makes a home directory for bombyx, with what a user has to bring: network and policy.
func (d *demo) makeHome() (string, error) {
	home := filepath.Join(d.dir, "home")
	policy, err := d.parties.policy.Encode()
	if err == nil {
		err = os.Mkdir(home, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "policy.json"), policy, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "network.json"), d.parties.config, 0o600)
	}
	return home, err
}
