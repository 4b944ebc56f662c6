package devnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/internal/strictjson"
	"github.com/bombyx-network/bombyx/internal/ton"
)

const maxControl = 4096 // bytes of a request

// Status is what the control endpoint says of the chain.
type Status struct {
	GlobalID int32     `json:"global_id"`
	Seqno    uint32    `json:"seqno"`
	Time     time.Time `json:"time"`
	Giver    string    `json:"giver"`
	Waiting  int       `json:"waiting"` // external messages
}

// Status describes the chain as it is.
func (c *Chain) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{GlobalID: c.globalID, Seqno: c.last().id.SeqNo, Time: c.now().UTC(), Giver: c.giver.Copy().Bounce(false).String(), Waiting: len(c.pool)}
}

// Control is the chain's remote control, to be served on loopback only:
//
//	GET  /global.config.json   what clients connect with
//	GET  /status               Status
//	POST /fund                 {"address": "UQ...", "amount": "12.5"} in GRAM
//	POST /advance              {"seconds": 3600}
//	POST /seal                 {}
//	POST /delay                {"blocks": 3} that internal messages wait
//	POST /faults/{liteserver}  Faults of liteserver 0, 1, ...
//
// A refusal is {"error": "..."}. Requests that a web page could make from the
// user's browser are refused: a body must be application/json, and the Host
// must be an IP address or localhost.
func (c *Chain) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /global.config.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(c.GlobalConfig())
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { respond(w, c.Status(), nil) })
	post(mux, c, "/fund", func(_ *http.Request, in struct {
		Address string `json:"address"`
		Amount  string `json:"amount"`
	}) error {
		to, err := address.ParseAddr(in.Address)
		if err != nil {
			to, err = address.ParseRawAddr(in.Address)
		}
		if err != nil {
			return fmt.Errorf("no address: %q: give one in its friendly (UQ..., EQ...) or raw form", in.Address)
		}
		n, err := ton.ParseNano(in.Amount)
		if err != nil {
			return err
		}
		return c.Fund(to, uint64(n))
	})
	post(mux, c, "/advance", func(_ *http.Request, in struct {
		Seconds int64 `json:"seconds"`
	}) error {
		const most = 100 * 365 * 24 * 3600
		if in.Seconds < 0 || in.Seconds > most {
			return fmt.Errorf("seconds: from 0 to %d", most)
		}
		return c.Advance(time.Duration(in.Seconds) * time.Second)
	})
	post(mux, c, "/seal", func(*http.Request, struct{}) error { return c.Seal() })
	post(mux, c, "/delay", func(_ *http.Request, in struct {
		Blocks uint32 `json:"blocks"`
	}) error {
		c.DelayMessages(in.Blocks)
		return nil
	})
	post(mux, c, "/faults/{liteserver}", func(r *http.Request, f Faults) error {
		n, err := strconv.Atoi(r.PathValue("liteserver"))
		c.mu.Lock()
		servers := c.servers
		c.mu.Unlock()
		if err != nil || n < 0 || n >= len(servers) {
			return fmt.Errorf("no liteserver %q: there are %d, counted from 0", r.PathValue("liteserver"), len(servers))
		}
		return servers[n].SetFaults(f)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintln(w, `{"error":"there are GET /status and /global.config.json; POST /fund, /advance, /seal, /delay and /faults/0"}`)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !localHost(r.Host) {
			http.Error(w, `{"error":"the devnet is not under this host name"}`, http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// post handles a JSON request and answers with the chain's status.
func post[T any](mux *http.ServeMux, c *Chain, path string, do func(*http.Request, T) error) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
			respond(w, nil, errors.New("the request must be application/json: curl -H 'Content-Type: application/json' -d '{...}'"))
			return
		}
		var in T
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
		if err == nil {
			err = strictjson.Decode(body, maxControl, &in)
		}
		if err == nil {
			err = do(r, in)
		}
		respond(w, c.Status(), err)
	})
}

func respond(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// localHost says whether a Host header cannot come from a rebound name.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost"
}
