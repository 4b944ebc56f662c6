package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func devnetCommand() *cobra.Command {
	var dir, listen, control, config string
	var blockTime time.Duration
	c := &cobra.Command{Use: "devnet", Short: "Run a local TON network for development", Args: cobra.NoArgs,
		Long: `devnet runs a TON blockchain in one process: a real state machine behind the real
liteserver protocol, so that any TON client works with it under its strictest proofs.
Its coins are worth nothing and its global id is no other network's.

The control endpoint takes, on loopback:
  POST /fund?address=ADDR&nano=N   send N nanogram to ADDR
  POST /advance?seconds=N          let N seconds of chain time pass`,
		Example: "  bombyx devnet --dir ./devnet --config devnet.json\n  curl -X POST '127.0.0.1:8900/fund?address=UQ...&nano=5000000000'"}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "keep the chain here across restarts (default: memory only)")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "liteserver address, IPv4")
	f.StringVar(&control, "control", "127.0.0.1:0", "control endpoint, on loopback")
	f.StringVar(&config, "config", "", "write the network's global.config.json here")
	f.DurationVar(&blockTime, "block-time", time.Second, "time between blocks")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if blockTime < 10*time.Millisecond {
			return cli.Errorf(cli.Usage, "use 10ms or more", "block time %s is too short", blockTime)
		}
		chain, err := devnet.New(devnet.Config{Dir: dir})
		if err != nil {
			return cli.Errorf(cli.Usage, "use another --dir, or remove it to start afresh", "%w", err)
		}
		defer chain.Close()
		ls, err := chain.Serve(cmd.Context(), listen)
		if err != nil {
			return cli.Errorf(cli.Usage, "choose another --listen", "%w", err)
		}
		defer ls.Close()
		l, err := net.Listen("tcp", control)
		if err != nil {
			return cli.Errorf(cli.Usage, "choose another --control", "%w", err)
		}
		defer l.Close()
		if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			return cli.Errorf(cli.Usage, "use 127.0.0.1", "the control endpoint gives money to whoever asks and must stay on loopback")
		}
		if config != "" {
			if err := os.WriteFile(config, chain.GlobalConfig(), 0o644); err != nil {
				return cli.Errorf(cli.Usage, "choose another --config", "%w", err)
			}
		}
		srv := &http.Server{Handler: devnetControl(chain), ReadHeaderTimeout: 5 * time.Second}
		go srv.Serve(l)
		defer srv.Close()
		json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"liteserver": ls.Addr().String(), "control": "http://" + l.Addr().String(), "global_id": chain.GlobalID(), "config": config})
		tick := time.NewTicker(blockTime)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := chain.Seal(); err != nil {
					return err
				}
			case <-cmd.Context().Done():
				return nil
			}
		}
	}
	return c
}

func devnetControl(chain *devnet.Chain) http.Handler {
	mux := http.NewServeMux()
	number := func(r *http.Request, name string) (uint64, *apierror.Error) {
		n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 62)
		if err != nil {
			return 0, apierror.New(400, "bad_request", name+" is not a number", "")
		}
		return n, nil
	}
	mux.HandleFunc("POST /fund", func(w http.ResponseWriter, r *http.Request) {
		nano, fault := number(r, "nano")
		a, err := address.ParseAddr(r.URL.Query().Get("address"))
		if fault == nil && err != nil {
			fault = apierror.New(400, "bad_request", "address: "+err.Error(), "")
		}
		if fault == nil {
			if err := chain.Fund(a, nano); err != nil {
				fault = apierror.New(409, "not_funded", err.Error(), "")
			}
		}
		if fault != nil {
			fault.Write(w)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("POST /advance", func(w http.ResponseWriter, r *http.Request) {
		n, fault := number(r, "seconds")
		if fault == nil {
			if err := chain.Advance(time.Duration(min(n, 1<<32)) * time.Second); err != nil {
				fault = apierror.New(409, "not_advanced", err.Error(), "")
			}
		}
		if fault != nil {
			fault.Write(w)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
