package envelope

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
)

// Our HMAC against the standard library's: keys around the block size, messages shorter and longer than the room for them.
func TestSum(t *testing.T) {
	for _, k := range []int{0, 1, 31, 32, 63, 64, 65, 200, 1152} {
		for _, m := range []int{0, 1, 64, 191, 192, 193, 1000} {
			key, message := text(k), text(m)
			peer := hmac.New(sha256.New, key)
			peer.Write(message)
			var d derivation
			equal(t, fmt.Sprintf("key of %d, message of %d", k, m), d.sum(key, append(d.message(), message...)), peer.Sum(nil))
			d.wipe()
			if d != (derivation{}) {
				t.Error("something is left after wipe")
			}
		}
	}
}

// What is given back holds nothing of the message that it held.
func TestFreedBlocksAreZero(t *testing.T) {
	b, big := blocks.Get().(*block), bigBlocks.Get().(*bigBlock)
	for _, x := range [][]byte{b[:], big[:]} {
		for i := range x {
			x[i] = byte(i) | 1
		}
	}
	b.free()
	big.free()
	if *b != (block{}) || *big != (bigBlock{}) {
		t.Error("something is left in a block that was given back")
	}
}

// Blocks go from one message to another: no byte may go with them. Many exchanges at once, some of them abandoned half-way.
func TestBlocksStayApart(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				size := []int{0, 10, 1000, 3500, 3 * blockSize, 2 * MaxChunk}[(i+j)%6]
				mine := bytes.Repeat([]byte{byte('A' + i)}, size)
				wire, opener := sealAll(t, s, newRequest(t, bytes.NewReader(mine)))
				req, sealer, err := r.Open(context.Background(), bytes.NewReader(wire))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(req.Body)
				if err != nil || !bytes.Equal(got, mine) {
					t.Errorf("request of %d bytes: %d came, %v", size, len(got), err)
				}
				if n, err := req.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
					t.Errorf("after the end: %d, %v", n, err)
				}
				var answer bytes.Buffer
				w := sealer.Respond(&answer, nil)
				for part := mine; len(part) > 0; part = part[min(len(part), 999):] {
					w.Write(part[:min(len(part), 999)])
					if j%2 == 0 {
						w.Flush()
					}
				}
				if j%5 == 4 {
					continue // abandoned
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				if _, err := w.Write(mine); err == nil {
					t.Error("written after the end")
				}
				if w.Close() == nil || w.FlushError() == nil {
					t.Error("closed twice")
				}
				resp, err := opener.Open(&answer, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Error(resp, err)
					return
				}
				if j%5 == 3 {
					resp.Body.Read(make([]byte, 5))
					continue
				}
				if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, mine) {
					t.Errorf("answer of %d bytes: %d came, %v", size, len(got), err)
				}
			}
		})
	}
	wg.Wait()
	for range 50 {
		if b := blocks.Get().(*block); *b != (block{}) {
			t.Fatal("a block that is not clear")
		}
	}
}
