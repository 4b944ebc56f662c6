// Package cache remembers what verifiers need not find out again, in bounded memory.
package cache

import "sync"

// Cache is a map with two generations: when the young one is full it takes the place of the old one, whose entries are
// forgotten unless they were used meanwhile. It is safe for concurrent use.
type Cache[V any] struct {
	mu         sync.Mutex
	young, old map[[32]byte]V
	generation int
}

// New returns a Cache of at most size entries (2, where size is less). The last size/2 that were used are among them.
func New[V any](size int) *Cache[V] { return &Cache[V]{generation: max(1, size/2)} }

// Get returns what Put last stored under key, if it is still remembered. A key should be a hash: it stands for the value.
func (c *Cache[V]) Get(key [32]byte) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.young[key]
	if !ok {
		if v, ok = c.old[key]; ok {
			c.add(key, v)
		}
	}
	return v, ok
}

// Put stores v under key.
func (c *Cache[V]) Put(key [32]byte, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, v)
}

// Len returns the number of entries in memory; an entry that moved between generations counts twice.
func (c *Cache[V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.young) + len(c.old)
}

func (c *Cache[V]) add(key [32]byte, v V) {
	if c.young == nil || len(c.young) >= c.generation {
		c.old, c.young = c.young, make(map[[32]byte]V)
	}
	c.young[key] = v
}
