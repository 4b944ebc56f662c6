package cache

import (
	"encoding/binary"
	"sync"
	"testing"
)

func key(i int) (k [32]byte) {
	binary.BigEndian.PutUint64(k[:], uint64(i))
	return k
}

func TestBounded(t *testing.T) {
	for _, size := range []int{0, 1, 2, 8, 2048} {
		c := New[int](size)
		for i := range 10_000 {
			c.Put(key(i), i)
			if v, ok := c.Get(key(i)); !ok || v != i {
				t.Fatalf("size %d: %d is gone at once", size, i)
			}
			if n := c.Len(); n > max(2, size) {
				t.Fatalf("size %d: %d entries", size, n)
			}
		}
		if _, ok := c.Get(key(1)); ok {
			t.Errorf("size %d: nothing is ever forgotten", size)
		}
		for i := 10_000 - max(1, size/2); i < 10_000; i++ {
			if _, ok := c.Get(key(i)); !ok {
				t.Errorf("size %d: %d of the last half is gone", size, i)
			}
		}
	}
}

func TestUsedStays(t *testing.T) {
	c := New[int](8)
	c.Put(key(0), 1)
	for i := range 1000 {
		c.Put(key(i+1), i)
		if v, ok := c.Get(key(0)); !ok || v != 1 {
			t.Fatalf("an entry in use is forgotten after %d others", i)
		}
	}
	c.Put(key(0), 2)
	if v, ok := c.Get(key(0)); !ok || v != 2 {
		t.Error("an entry cannot be replaced")
	}
}

func TestConcurrent(t *testing.T) {
	c := New[int](16)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				c.Put(key(i%40), i%40)
				if v, ok := c.Get(key(i % 7)); ok && v != i%7 {
					t.Errorf("%d under %d", v, i%7)
					return
				}
			}
		})
	}
	wg.Wait()
}
