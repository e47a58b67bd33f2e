package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// Faults are how often a Provider fails, each from 0 to 1.
type Faults struct {
	Refuse float64 // a call fails and does nothing
	Lose   float64 // a call does its work and says that it failed
	Cut    float64 // a body or a list breaks off
	Slow   float64 // a call takes a millisecond
	Lie    float64 // a body has a wrong bit
}

// Misbehave changes how often the provider fails.
func (p *Provider) Misbehave(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// EveryFault fails a third of all calls, in every way that a client can notice.
func EveryFault() Faults { return Faults{Refuse: 0.15, Lose: 0.15, Cut: 0.2, Slow: 0.02} }

// Provider is a provider in memory that fails by chance. It is what remote.New makes a store of.
type Provider struct {
	Forgets  bool // keeps no tokens
	Careless bool // ignores the condition of a put
	Stale    bool // lists nothing that was stored since
	Shuffled bool // lists backwards
	// Hook, when not nil, stands between a call and what it does.
	Hook func(call, key string, do func() error) error

	memory *Memory
	faults Faults

	mu     sync.Mutex
	random *rand.Rand
	tokens map[string]string
}

var _ remote.Backend = (*Provider)(nil)

// NewProvider gives an empty provider; the seed decides when it fails.
func NewProvider(seed uint64, f Faults) *Provider {
	return &Provider{memory: NewMemory(nil), faults: f, random: rand.New(rand.NewPCG(seed, 5)), tokens: map[string]string{}}
}

// Plant puts an object where nobody put it.
func Plant(p *Provider, key string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.Set(key, append([]byte{}, body...))
	p.tokens[key] = "another's"
}

// Memory gives the objects as they are, past all faults.
func (p *Provider) Memory() *Memory { return p.memory }

func (p *Provider) chance(of float64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64() < of
}

func (p *Provider) now() Faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

// failure is what a client sees of a provider in trouble.
func (p *Provider) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []error{syscall.ECONNRESET, io.ErrUnexpectedEOF, errBusy, fmt.Errorf("503 Slow Down: %w", errBusy)}
	return all[p.random.IntN(len(all))]
}

var errBusy = errors.New("the provider is busy")

func (p *Provider) call(call, key string, do func() error) error {
	if p.Hook != nil {
		return p.Hook(call, key, do)
	}
	f := p.now()
	if p.chance(f.Slow) {
		time.Sleep(time.Millisecond)
	}
	if p.chance(f.Refuse) {
		return p.failure()
	}
	err := do()
	if err == nil && p.chance(f.Lose) {
		return p.failure()
	}
	return err
}

// Put is remote.Backend's.
func (p *Provider) Put(ctx context.Context, up remote.Upload) error {
	return p.call("put", up.Key, func() error {
		b, err := io.ReadAll(up.Body)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, taken := p.tokens[up.Key]; taken && !p.Careless {
			return store.ErrExists
		}
		p.memory.Set(up.Key, append([]byte{}, b...))
		p.tokens[up.Key] = up.Token
		return nil
	})
}

// Get is remote.Backend's.
func (p *Provider) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	err = p.call("get", key, func() error {
		b := p.memory.Bytes(key)
		if b == nil {
			return errors.Join(ctx.Err(), store.ErrNotExist)
		}
		b = b[min(off, int64(len(b))):]
		if n >= 0 {
			b = b[:min(n, int64(len(b)))]
		}
		if len(b) > 0 && p.chance(p.now().Lie) {
			p.mu.Lock()
			b[p.random.IntN(len(b))] ^= 1 << p.random.IntN(8)
			p.mu.Unlock()
		}
		r = io.NopCloser(bytes.NewReader(b))
		if len(b) > 1 && p.chance(p.now().Cut) {
			p.mu.Lock()
			defer p.mu.Unlock()
			r = io.NopCloser(io.MultiReader(bytes.NewReader(b[:1+p.random.IntN(len(b)-1)]), cutOff{}))
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// cutOff is a connection that was cut.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Stat is remote.Backend's.
func (p *Provider) Stat(ctx context.Context, key string) (o remote.Object, err error) {
	err = p.call("stat", key, func() (err error) {
		b := p.memory.Bytes(key)
		if b == nil {
			return errors.Join(ctx.Err(), store.ErrNotExist)
		}
		if o.Size = int64(len(b)); key[0] != '.' { // the probe's own object is none of Memory's
			o.Info, err = p.memory.Stat(ctx, key)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.Forgets {
			o.Token = p.tokens[key]
		}
		return err
	})
	return o, err
}

// List is remote.Backend's.
func (p *Provider) List(ctx context.Context, q remote.Query) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		var all []store.Info
		err := p.call("list", q.Prefix, func() error {
			for info := range p.memory.List(ctx, strings.TrimPrefix(q.Prefix, "."), q.After, q.Delimited) {
				all = append(all, info)
			}
			if strings.HasPrefix(q.Prefix, ".") { // the probe's own object, which Memory does not list
				all = nil
				if b := p.memory.Bytes(q.Prefix); b != nil {
					all = []store.Info{{Key: q.Prefix, Size: int64(len(b))}}
				}
			}
			return ctx.Err()
		})
		if p.Stale {
			all = nil
		}
		if p.Shuffled {
			slices.Reverse(all)
		}
		for _, info := range all {
			if p.chance(p.now().Cut / 10) {
				err = p.failure()
				break
			}
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Info{}, err)
		}
	}
}

// Delete is remote.Backend's.
func (p *Provider) Delete(ctx context.Context, keys []string) error {
	return p.call("delete", keys[0], func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, key := range keys {
			p.memory.Set(key, nil)
			delete(p.tokens, key)
		}
		return ctx.Err()
	})
}

// Transient is remote.Backend's.
func (p *Provider) Transient(err error) bool { return errors.Is(err, errBusy) }

// Place is remote.Backend's.
func (p *Provider) Place() string { return "the provider of the test" }

// Close is remote.Backend's.
func (p *Provider) Close() error { return nil }
