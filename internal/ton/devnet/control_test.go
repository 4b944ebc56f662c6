package devnet

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xssnick/tonutils-go/liteclient"
)

func TestControl(t *testing.T) {
	c := memory(t)
	if _, err := c.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(c.Control())
	defer srv.Close()
	call := func(path, kind, body string) (int, string) {
		t.Helper()
		res, err := http.Post(srv.URL+path, kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		out, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(out)
	}
	to := addr(0, 1).Bounce(false).String()
	for _, v := range []struct{ path, body string }{
		{"/fund", `{"address":"` + to + `","amount":"12.5"}`},
		{"/fund", `{"address":"` + addr(0, 2).StringRaw() + `","amount":"1"}`},
		{"/advance", `{"seconds":3600}`},
		{"/seal", `{}`},
		{"/delay", `{"blocks":2}`},
		{"/faults/0", `{"drop_externals":1,"lie":"balance"}`},
	} {
		if code, out := call(v.path, "application/json", v.body); code != 200 || !strings.Contains(out, `"seqno"`) {
			t.Errorf("%s: %d %s", v.path, code, out)
		}
	}
	if got := c.balanceOf(t, addr(0, 1)); got != 12_500_000_000 {
		t.Errorf("funded with %d", got)
	}
	for name, v := range map[string]struct{ path, kind, body string }{
		"form":              {"/seal", "application/x-www-form-urlencoded", `{}`},
		"no JSON":           {"/seal", "application/json", `seal`},
		"unknown member":    {"/advance", "application/json", `{"minutes":1}`},
		"negative time":     {"/advance", "application/json", `{"seconds":-1}`},
		"endless time":      {"/advance", "application/json", `{"seconds":9000000000000000000}`},
		"bad address":       {"/fund", "application/json", `{"address":"here","amount":"1"}`},
		"bad amount":        {"/fund", "application/json", `{"address":"` + to + `","amount":"1e9"}`},
		"no such lie":       {"/faults/0", "application/json", `{"lie":"white"}`},
		"no such server":    {"/faults/7", "application/json", `{}`},
		"negative delay":    {"/faults/0", "application/json", `{"delay_ns":-1}`},
		"oversized request": {"/seal", "application/json", `{"x":"` + strings.Repeat("x", maxControl) + `"}`},
	} {
		if code, out := call(v.path, v.kind, v.body); code != 400 || !strings.Contains(out, `"error"`) {
			t.Errorf("%s: %d %s", name, code, out)
		}
	}
	if code, out := call("/mint", "application/json", `{}`); code != 404 || !strings.Contains(out, "/fund") {
		t.Errorf("an unknown path: %d %s", code, out)
	}
	req, err := http.NewRequest("GET", srv.URL+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a rebound host name: %d", res.StatusCode)
	}
	res, err = http.Get(srv.URL + "/global.config.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var cfg liteclient.GlobalConfig
	if err = json.NewDecoder(res.Body).Decode(&cfg); err != nil || len(cfg.Liteservers) != 1 || cfg.Validator.InitBlock.SeqNo != 1 {
		t.Errorf("%+v %v", cfg, err)
	}
}

// Blocks come when something waits, and rarely otherwise.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		stop := t.Context()
		go func() { done <- c.Run(stop, time.Second) }()
		seqno := func() uint32 { synctest.Wait(); return c.Status().Seqno }
		time.Sleep(9500 * time.Millisecond)
		if n := seqno(); n != 2 { // one at once
			t.Fatalf("%d blocks while idle", n)
		}
		c.mu.Lock()
		msg, err := c.giverMessage(addr(0, 1), 1, false)
		if err == nil {
			err = c.push(msg)
		}
		c.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := seqno(); n != 3 {
			t.Fatalf("block %d with a message waiting", n)
		}
		time.Sleep(9 * time.Second)
		if n := seqno(); n != 3 {
			t.Fatalf("block %d while idle", n)
		}
		time.Sleep(2 * time.Second)
		if n := seqno(); n != 4 {
			t.Fatalf("block %d after an idle while", n)
		}
		if err = c.Run(stop, 0); err == nil {
			t.Fatal("no interval")
		}
		if err = c.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Second) // the next block cannot be made
		if err = <-done; err == nil {
			t.Fatal("runs on after Close")
		}
	})
}
