// Package chromium drives a headless Chromium, for tests of pages.
package chromium

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// patience bounds one command: only a browser that hangs reaches it.
const patience = 2 * time.Minute

// A Browser is a headless Chromium with one tab, spoken to in the DevTools protocol over a pipe: JSON messages, each with
// a zero byte at its end, on the browser's descriptors 3 and 4.
type Browser struct {
	t       *testing.T
	ctx     context.Context
	out     *os.File
	session string

	mu       sync.Mutex
	id       int
	waiting  map[int]chan reply
	requests []string // URLs that the tab asked for
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// Start starts a browser, or skips the test where there is none; in CI it fails.
func Start(t *testing.T) *Browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		const hint = "no Chromium: the page is not tested; apt-get install chromium"
		if os.Getenv("CI") == "true" {
			t.Fatal(hint)
		}
		t.Skip(hint)
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// The sandbox needs a user other than root, and there is nothing in this browser but our own page.
	c := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--window-size=1280,1000", "--user-data-dir="+t.TempDir(),
		"--remote-debugging-pipe", "about:blank")
	c.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	ctx, cancel := context.WithCancel(t.Context())
	b := &Browser{t: t, ctx: ctx, out: in, waiting: map[int]chan reply{}}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		defer cancel() // whoever waits for an answer then stops waiting
		b.listen(out)
	}()
	t.Cleanup(func() {
		b.send("", "Browser.close", nil)
		dead := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		c.Wait()
		dead.Stop()
		in.Close()
		out.Close()
		<-listening
	})

	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Network", "Page", "Runtime", "DOM"} {
		b.Do(domain+".enable", nil, nil)
	}
	return b
}

// listen hands answers to those who wait and notes what the tab asks the network for.
func (b *Browser) listen(in *os.File) {
	r := bufio.NewReader(in)
	for {
		message, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			reply
			ID     int
			Method string
			Params struct {
				Request struct{ URL string }
				URL     string
			}
		}
		if json.Unmarshal(message[:len(message)-1], &m) != nil {
			return
		}
		b.mu.Lock()
		switch m.Method {
		case "Network.requestWillBeSent":
			b.requests = append(b.requests, m.Params.Request.URL)
		case "Network.webSocketCreated", "Network.webTransportCreated":
			b.requests = append(b.requests, m.Params.URL)
		}
		if c := b.waiting[m.ID]; c != nil {
			delete(b.waiting, m.ID)
			c <- m.reply
		}
		b.mu.Unlock()
	}
}

func (b *Browser) send(session, method string, params any) <-chan reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.id++
	answer := make(chan reply, 1)
	b.waiting[b.id] = answer
	m := map[string]any{"id": b.id, "method": method}
	if session != "" {
		m["sessionId"] = session
	}
	if params != nil {
		m["params"] = params
	}
	data, err := json.Marshal(m)
	if err == nil {
		_, err = b.out.Write(append(data, 0))
	}
	if err != nil {
		answer <- reply{Error: &struct{ Message string }{err.Error()}}
	}
	return answer
}

func (b *Browser) call(session, method string, params, result any) {
	b.t.Helper()
	select {
	case r := <-b.send(session, method, params):
		if r.Error != nil {
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(r.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
	case <-b.ctx.Done():
		b.t.Fatalf("%s: the browser is gone", method)
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer in %s", method, patience)
	}
}

// Do sends a command to the tab.
func (b *Browser) Do(method string, params, result any) {
	b.t.Helper()
	b.call(b.session, method, params, result)
}

// Eval returns the value of an expression, or of the promise that it yields.
func (b *Browser) Eval(expression string) any {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.Do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r)
	if e := r.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	return r.Result.Value
}

// Await returns once a condition on the document holds.
func (b *Browser) Await(condition string) {
	b.t.Helper()
	b.Eval(fmt.Sprintf(`new Promise((done) => {
		const look = () => (%s) && (watch.disconnect(), done(true));
		const watch = new MutationObserver(look);
		watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
		look();
	})`, condition))
}

// Choose fills a file field, as a user who picks files does.
func (b *Browser) Choose(field string, paths ...string) {
	b.t.Helper()
	var doc struct{ Root struct{ NodeID int } }
	b.Do("DOM.getDocument", nil, &doc)
	var node struct{ NodeID int }
	b.Do("DOM.querySelector", map[string]any{"nodeId": doc.Root.NodeID, "selector": "#" + field}, &node)
	b.Do("DOM.setFileInputFiles", map[string]any{"nodeId": node.NodeID, "files": paths}, nil)
}

// Requested lists the URLs that the tab has asked for.
func (b *Browser) Requested() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.requests...)
}
