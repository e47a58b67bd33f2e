package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// shop is the application: it takes orders, and counts those whose commit the server acknowledged.
type shop struct {
	socket string // directory of the server's socket
	port   int
	last   atomic.Int64 // newest id given out
	acked  atomic.Int64
}

func (s *shop) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("host='%s' port=%d user=postgres dbname=postgres sslmode=disable connect_timeout=10 application_name=shop", s.socket, s.port))
	if err != nil {
		return nil, fmt.Errorf("write the shop's conninfo: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect the shop: %w", err)
	}
	return conn, nil
}

// ask runs one statement and gives its only value as text; empty: it has none.
func (s *shop) ask(ctx context.Context, sql string) (string, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", fmt.Errorf("run %q: %w", sql, err)
	}
	if n := len(results); n == 0 || len(results[n-1].Rows) == 0 {
		return "", nil
	}
	return string(results[len(results)-1].Rows[0][0]), nil
}

func (s *shop) number(ctx context.Context, sql string) (int64, error) {
	v, err := s.ask(ctx, sql)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("run %q: it gave %q", sql, v)
	}
	return n, nil
}

// promoted waits until the server has recovered to its target and was promoted there: it lets readers in long before.
func (s *shop) promoted(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	for {
		in, err := s.ask(ctx, "select pg_is_in_recovery()")
		if err != nil || in == "f" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the copy to reach its target: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// open makes the table with the orders that are there already.
func (s *shop) open(ctx context.Context, orders int64) error {
	_, err := s.ask(ctx, fmt.Sprintf("create table orders (id bigint primary key, placed_at timestamptz not null default now());"+
		"insert into orders select i from generate_series(1, %d) i", orders))
	s.last.Store(orders)
	s.acked.Store(orders)
	return err
}

// sell takes orders over several connections for a while, each in a transaction of its own.
func (s *shop) sell(ctx context.Context, clients int, length time.Duration) error {
	until := time.Now().Add(length)
	failed := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { failed[i] = s.clerk(ctx, until) })
	}
	all.Wait()
	return errors.Join(failed...)
}

func (s *shop) clerk(ctx context.Context, until time.Time) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for time.Now().Before(until) {
		if _, err := conn.Exec(ctx, "insert into orders (id) values ($1)", s.last.Add(1)); err != nil {
			return fmt.Errorf("take an order: %w", err)
		}
		s.acked.Add(1)
	}
	return nil
}
