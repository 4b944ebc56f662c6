package host

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client that takes nothing more of its answer, on a connection that lives, loses it and frees its place at the
// engine, at the cost that the enclave states; one that reads slowly beside it, for longer than that takes, gets all of its own.
func TestReaderThatStops(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			t.Parallel()
			readerThatStops(t, version)
		})
	}
}

func readerThatStops(t *testing.T, version int) {
	const size = 1 << 20
	r := newRig(t)
	r.h.takeWithin = 2 * time.Second
	freed := make(chan struct{})
	r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		slow := req.Header.Get("Bombyx-Stream") == strings.Repeat("b", 32)
		w.Header().Set("Trailer", "Bombyx-Cost, Bombyx-Tab")
		piece := make([]byte, 1<<10)
		for n := 0; !slow || n < size; n += len(piece) { // that of the other has no end
			if _, err := w.Write(piece); err != nil {
				close(freed)
				return
			}
		}
		w.Header().Set("Bombyx-Cost", "5")
		w.Header().Set("Bombyx-Tab", newTab()+" 5")
	}
	r.enclave.cost[strings.Repeat("a", 32)] = "7" // settled
	auth := r.open()
	if status, code := r.pay(auth, 1000); status >= 300 {
		t.Fatal(status, code)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(r.h)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	p := new(http.Protocols)
	p.SetHTTP1(version == 1)
	p.SetUnencryptedHTTP2(version == 2)
	tr := &http.Transport{Protocols: p, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	t.Cleanup(tr.CloseIdleConnections)
	ask := func(stream string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+l.Addr().String()+"/v1/enclaves/e0/sealed", strings.NewReader("sealed"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Authorization": {auth}, "Bombyx-Stream": {stream}, "Bombyx-Allot": {strconv.Itoa(50)}, "Content-Type": {requestType}}
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != version {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	stopped, slow := ask(strings.Repeat("a", 32)), ask(strings.Repeat("b", 32))
	var all sync.WaitGroup
	all.Go(func() {
		got := int64(0)
		for {
			n, err := io.CopyN(io.Discard, slow.Body, size/48)
			if got += n; err != nil {
				break
			}
			time.Sleep(r.h.takeWithin / 32)
		}
		if got != size {
			t.Errorf("the slow reader got %d bytes of %d", got, size)
		}
	})
	<-freed
	all.Wait()
	if n, err := io.Copy(io.Discard, stopped.Body); err == nil {
		t.Errorf("the reader that had stopped got %d bytes and a whole answer", n)
	}
	if row := r.row(); row.Spent != 12 {
		t.Errorf("the books have %d, want 7 and 5", row.Spent)
	}
}
