package host

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The list is what the file says now; one that makes no sense changes nothing, and the log says so, once.
func TestDrainFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drain")
	enclaves := []Enclave{{ID: "a"}, {ID: "b"}}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("c")
	if _, err := OpenDrain(path, enclaves, nil); err == nil || !strings.Contains(err.Error(), `no enclave "c"`) {
		t.Errorf("opened with an unknown enclave: %v", err)
	}
	os.Remove(path)
	var log bytes.Buffer
	f, err := OpenDrain(path, enclaves, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || len(f.List()) != 0 {
		t.Fatalf("without a file: %v", err)
	}
	want := func(what string, ids ...string) {
		t.Helper()
		if got := f.List(); !slices.Equal(got, ids) {
			t.Errorf("%s: %v", what, got)
		}
	}
	write("a\n")
	want("one", "a")
	write("a\r\n\n b\n")
	want("two", "a", "b")
	if strings.Contains(log.String(), "ERROR") {
		t.Error(log.String())
	}
	write("x\n")
	want("an unknown one", "a", "b")
	want("an unknown one", "a", "b")
	write(strings.Repeat("a ", 1<<16))
	want("a long one", "a", "b")
	if n := strings.Count(log.String(), "drain: the list before holds"); n != 2 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	write("")
	want("none")
	write("b")
	want("the other", "b")
	os.Remove(path)
	want("no file")
}

// What runs at a drained enclave goes on and is paid; nothing new is sent to it, and it is on no card.
func TestDrain(t *testing.T) {
	r := newRig(t)
	var list []string
	r.h.cfg.Drain = func() []string { return list }
	auth := r.open()
	r.pay(auth, 1000)
	began, hold := make(chan struct{}), make(chan struct{})
	r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) { close(began); <-hold; costs("70")(w, req) }
	done := make(chan int)
	go func() {
		status, _ := r.ask(auth, stream1, "100")
		done <- status
	}()
	<-began
	list = []string{"e0"}
	r.h.drain()
	status, code := r.ask(auth, stream2, "100")
	r.want("a new request", 421, "enclave_drained", status, code)
	status, code, _ = r.call("GET", "/v1/card", nil)
	r.want("the card", 503, "no_enclave", status, code)
	if s := r.h.Stats().Enclaves[0]; !s.Drained || s.Running != 1 {
		t.Errorf("%+v", s)
	}
	close(hold)
	if status := <-done; status != 200 {
		t.Errorf("what ran ended with %d", status)
	}
	if row := r.row(); row.Spent != 70 {
		t.Errorf("%d were spent", row.Spent)
	}
	list = nil
	r.h.drain()
	r.enclave.sealed = costs("30")
	if status, code := r.ask(auth, stream2, "100"); status != 200 || r.row().Spent != 100 {
		t.Errorf("afterwards: %d %s, %d spent", status, code, r.row().Spent)
	}
	if _, err := r.h.Card(t.Context()); err != nil {
		t.Error(err)
	}
}
