package repository

import "sync"

// cache remembers what immutable objects said, by key. It is emptied when it is full, which keeps it small and simple:
// everything in it can be read again. The zero value is ready.
type cache[T any] struct {
	mu sync.Mutex
	m  map[string]T
}

// cacheSize bounds a cache.
const cacheSize = 8192

func (c *cache[T]) get(key string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.m[key]
	return v, ok
}

func (c *cache[T]) put(key string, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= cacheSize {
		c.m = map[string]T{}
	}
	c.m[key] = v
}

func (c *cache[T]) drop(keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		delete(c.m, key)
	}
}
