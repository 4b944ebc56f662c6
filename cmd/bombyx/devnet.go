package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func devnetCommand() *cobra.Command {
	var dir, listen, dht, control, config string
	var blockTime time.Duration
	c := &cobra.Command{Use: "devnet", Short: "Run a local TON network for development", Args: cobra.NoArgs,
		Long: `devnet runs a TON blockchain in one process: a real state machine behind the real
liteserver protocol, so that any TON client works with it under its strictest proofs.
Its coins are worth nothing and its global id is no other network's.

The control endpoint takes JSON, on loopback:
  GET  /status, /global.config.json
  POST /fund     {"address":"UQ...","amount":"5"}   send GRAM
  POST /advance  {"seconds":86400}                  let chain time pass
  POST /seal     {}                                 make a block now
  POST /delay    {"blocks":3}                       hold messages back
  POST /faults/0 {"drop_externals":...}             make a liteserver fail or lie`,
		Example: `  bombyx devnet --dir ./devnet --config devnet.json --control 127.0.0.1:8900
  curl -d '{"address":"UQ...","amount":"5"}' -H 'Content-Type: application/json' 127.0.0.1:8900/fund`}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "keep the chain here across restarts (default: memory only)")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "liteserver address, IPv4")
	f.StringVar(&dht, "dht", "127.0.0.1:0", "address of a DHT node, IPv4, where hosts publish theirs")
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
		node, err := chain.ServeDHT(cmd.Context(), dht)
		if err != nil {
			return cli.Errorf(cli.Usage, "choose another --dht", "%w", err)
		}
		defer node.Close()
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
		srv := &http.Server{Handler: chain.Control(), ReadHeaderTimeout: 5 * time.Second}
		go srv.Serve(l)
		defer srv.Close()
		json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"liteserver": ls.Addr().String(), "dht": node.Addr().String(), "control": "http://" + l.Addr().String(), "global_id": chain.GlobalID(), "config": config})
		if err := chain.Run(cmd.Context(), blockTime); cmd.Context().Err() == nil {
			return err
		}
		return nil
	}
	return c
}
