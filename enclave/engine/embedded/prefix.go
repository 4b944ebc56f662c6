package embedded

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/llama"
)

// pages owns the memory for keys and values, and keeps full pages of ended requests for later ones that begin with the
// same tokens under the same salt. Kept pages give way, the longest unused first, when their memory is needed.
type pages struct {
	model     *llama.Model
	limit     int
	allocated int
	free      []*llama.Page // cleared
	kept      map[pageKey]*keptPage
	idle      list.List // of *keptPage that no request uses, the longest unused first
}

// pageKey names a page's content: the salt and all tokens up to the page's end.
type pageKey [sha256.Size]byte

// next is the key of the page that holds the given tokens after the one with key k.
func (k pageKey) next(tokens []int) pageKey {
	b := make([]byte, 0, sha256.Size+4*llama.PageTokens)
	b = append(b, k[:]...)
	for _, id := range tokens[:llama.PageTokens] {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return sha256.Sum256(b)
}

type keptPage struct {
	key   pageKey
	page  *llama.Page
	users int
	idle  *list.Element // nil while users > 0
}

// get returns an empty page. The caller has made sure by reservation that fewer than limit pages are in use.
func (p *pages) get() *llama.Page {
	if n := len(p.free); n > 0 {
		page := p.free[n-1]
		p.free = p.free[:n-1]
		return page
	}
	if p.allocated < p.limit {
		p.allocated++
		return p.model.NewPage()
	}
	k := p.idle.Remove(p.idle.Front()).(*keptPage)
	delete(p.kept, k.key)
	k.page.Clear()
	return k.page
}

// reuse gives a sequence the kept pages that its input begins with. At least one token remains to be computed.
func (p *pages) reuse(q *sequence) {
	if q.salt == ([32]byte{}) {
		return
	}
	key := pageKey(q.salt)
	for len(q.input) > llama.PageTokens {
		key = key.next(q.input)
		k, ok := p.kept[key]
		if !ok {
			break
		}
		if k.users++; k.idle != nil {
			p.idle.Remove(k.idle)
			k.idle = nil
		}
		q.shared = append(q.shared, k)
		q.cache.Pages = append(q.cache.Pages, k.page)
		q.cache.Tokens += llama.PageTokens
		q.input = q.input[llama.PageTokens:]
	}
	q.cached = q.cache.Tokens
}

// put takes the pages of an ended sequence back. The full ones are kept, unless the salt shares with nobody; the others
// are cleared at once. The last pages become idle first, so that they give way before the ones that they build on.
func (p *pages) put(q *sequence) {
	var keys []pageKey
	if q.salt != ([32]byte{}) {
		key := pageKey(q.salt)
		for at := 0; at+llama.PageTokens <= q.cache.Tokens; at += llama.PageTokens {
			key = key.next(q.history[at:])
			keys = append(keys, key)
		}
	}
	for i := len(q.cache.Pages) - 1; i >= 0; i-- {
		page := q.cache.Pages[i]
		if i < len(q.shared) {
			k := q.shared[i]
			if k.users--; k.users == 0 {
				k.idle = p.idle.PushBack(k)
			}
			continue
		}
		if i < len(keys) && p.kept[keys[i]] == nil {
			k := &keptPage{key: keys[i], page: page}
			k.idle = p.idle.PushBack(k)
			p.kept[k.key] = k
			continue
		}
		page.Clear()
		p.free = append(p.free, page)
	}
	q.cache.Pages, q.shared = nil, nil
}
