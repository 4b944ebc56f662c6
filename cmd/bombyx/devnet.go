package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func devnetCommand() *cobra.Command {
	var dir, listen, dht, control, config string
	var liteservers uint8
	var blockTime time.Duration
	c := &cobra.Command{Use: "devnet", Short: "Run a local TON network for development", Args: cobra.NoArgs,
		Long: `devnet runs a TON blockchain in one process: a real state machine behind the real
liteserver protocol, so that any TON client works with it under its strictest proofs, and
a node of a DHT of its own, in which hosts publish their ADNL addresses.
Its coins are worth nothing and its global id is no other network's.

The first line on standard output, one JSON object, says where everything is.

The control endpoint takes JSON, on loopback:
  GET  /status, /global.config.json
  POST /fund     {"address":"UQ...","amount":"5"}  send GRAM
  POST /advance  {"seconds":86400}                 let chain time pass
  POST /seal     {}                                make a block now
  POST /delay    {"blocks":3}                      hold messages back
  POST /faults/0 {"drop_externals":2}              liteserver 0 loses two
                 {"delay_ns":2000000000}           is slow
                 {"dead":true}                     does not answer
                 {"lie":"balance"}                 lies; also absent, head,
                                                   stale, result, history,
                                                   config, keyless, number
                 {}                                is honest again`,
		Example: `  bombyx devnet --dir ./devnet --config devnet.json --listen 127.0.0.1:8899 --control 127.0.0.1:8900
  curl -d '{"address":"UQ...","amount":"5"}' -H 'Content-Type: application/json' 127.0.0.1:8900/fund`}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "keep the chain here across restarts (default: memory only)")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "liteserver address, IPv4; port 0 is any")
	f.Uint8Var(&liteservers, "liteservers", 1, "how many, on ports from that of --listen up")
	f.StringVar(&dht, "dht", "127.0.0.1:0", "address of a DHT node, IPv4, where hosts publish theirs")
	f.StringVar(&control, "control", "127.0.0.1:0", "control endpoint, on loopback")
	f.StringVar(&config, "config", "", "write the network's global.config.json here")
	f.DurationVar(&blockTime, "block-time", time.Second, "time between blocks")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if blockTime < 10*time.Millisecond || blockTime > time.Minute {
			return cli.Errorf(cli.Usage, "use 10ms to 1m: clients refuse a newest block of two minutes ago", "block time %s is out of range", blockTime)
		}
		if liteservers == 0 {
			return cli.Errorf(cli.Usage, "use 1 or more", "a network without liteservers cannot be reached")
		}
		chain, err := devnet.New(devnet.Config{Dir: dir})
		if errors.Is(err, devnet.ErrInUse) {
			return cli.Errorf(cli.Usage, "stop the other one, or use another --dir", "%w", err)
		}
		if err != nil {
			return cli.Errorf(cli.Usage, "use another --dir, or remove it to start afresh", "%w", err)
		}
		defer chain.Close()
		var at []string
		for i := range liteservers {
			addr, err := following(listen, i)
			if err != nil {
				return err
			}
			ls, err := chain.Serve(cmd.Context(), addr)
			if err != nil {
				return cli.Errorf(cli.Usage, "choose another --listen", "%w", err)
			}
			at = append(at, ls.Addr().String())
		}
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
			"liteservers": at, "dht": node.Addr().String(), "control": "http://" + l.Addr().String(), "global_id": chain.GlobalID(), "config": config})
		if err := chain.Run(cmd.Context(), blockTime); cmd.Context().Err() == nil {
			return err
		}
		return nil
	}
	return c
}

// following is the address n ports up, or the same where any port will do.
func following(listen string, n uint8) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	p, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || p+uint64(n) > 65535 {
		return "", cli.Errorf(cli.Usage, "use an address such as 127.0.0.1:8899", "--listen %q has no port for liteserver %d", listen, n)
	}
	if p != 0 {
		p += uint64(n)
	}
	return net.JoinHostPort(host, strconv.FormatUint(p, 10)), nil
}
