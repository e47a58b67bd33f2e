package servers

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The headers of a version and of its immutability policy.
const (
	azureUntil   = "X-Ms-Immutability-Policy-Until-Date"
	azureMode    = "X-Ms-Immutability-Policy-Mode"
	azureVersion = "X-Ms-Version-Id"
)

// AzureLockServer is an azurite behind a proxy that keeps what azurite does not know: versions of blobs, and their immutability
// policies. Bytes, conditions and lists are azurite's.
type AzureLockServer struct {
	*AzureServer
	azurite string // 127.0.0.1:port
	wire    *http.Transport

	mu       sync.Mutex
	refuse   func(r *http.Request) int  // nil: none
	locking  map[string]bool            // containers with version-level immutability
	versions map[string][]*AzureVersion // by the path of a blob; the current one, if any, is the last
}

// AzureVersion is one version of a blob.
type AzureVersion struct {
	ID      string
	Current bool
	Until   time.Time // zero: no policy
	Locked  bool      // the policy can only be made longer
}

func (v *AzureVersion) active() bool { return v.Until.After(time.Now()) }

// AzureLocking starts azurite as Azure does, and the proxy before it.
func AzureLocking(tb testing.TB) *AzureLockServer {
	tb.Helper()
	azurite := Azure(tb)
	s := &AzureLockServer{
		AzureServer: &AzureServer{Kill: azurite.Kill}, azurite: azurite.Address, wire: &http.Transport{DisableCompression: true},
		locking: map[string]bool{}, versions: map[string][]*AzureVersion{},
	}
	proxy := httptest.NewServer(s)
	tb.Cleanup(func() { proxy.Close(); s.wire.CloseIdleConnections() })
	s.Address = strings.TrimPrefix(proxy.URL, "http://")
	return s
}

// LockContainer makes a container with version-level immutability.
func (s *AzureLockServer) LockContainer(tb testing.TB, name string) {
	tb.Helper()
	s.Container(tb, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locking[name] = true
}

// Refuse sets which requests are refused, with the status that is given: 403 of a user who lacks a right, 409 because a policy of
// the whole container keeps the blob, 503 in passing; 0: not refused. nil refuses none.
func (s *AzureLockServer) Refuse(which func(r *http.Request) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = which
}

// Versions gives the versions of all blobs of a container, by their names.
func (s *AzureLockServer) Versions(container string) map[string][]AzureVersion {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]AzureVersion{}
	for path, all := range s.versions {
		if name, ok := strings.CutPrefix(path, "/"+AzureAccount+"/"+container+"/"); ok {
			for _, v := range all {
				out[name] = append(out[name], *v)
			}
		}
	}
	return out
}

// ServeHTTP is http.Handler's.
func (s *AzureLockServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	container, blob, _ := strings.Cut(rest, "/")
	q := r.URL.Query()
	s.mu.Lock()
	locks, refuse := s.locking[container], s.refuse
	s.mu.Unlock()
	if refuse != nil {
		if status := refuse(r); status != 0 {
			refuseAzure(w, status, map[int]string{
				http.StatusForbidden: "AuthorizationPermissionMismatch", http.StatusConflict: "BlobImmutableDueToPolicy", http.StatusServiceUnavailable: "ServerBusy",
			}[status])
			return
		}
	}
	policy := q.Get("comp") == "immutabilityPolicies"
	switch {
	case blob == "":
		s.forward(w, r, func(h http.Header, _ int) { h.Set("X-Ms-Immutable-Storage-With-Versioning-Enabled", fmt.Sprint(locks)) })
	case !locks && (policy || r.Header.Get(azureUntil) != ""): // which code the service has for that is not documented
		refuseAzure(w, http.StatusConflict, "FeatureNotEnabled")
	case !locks:
		s.forward(w, r, nil)
	case policy:
		s.setPolicy(w, r)
	case r.Method == http.MethodDelete && q.Get("versionid") != "":
		s.deleteVersion(w, r.URL.Path, q.Get("versionid"))
	case r.Method == http.MethodDelete:
		s.deleteBlob(w, r)
	case r.Method == http.MethodPut:
		s.putBlob(w, r)
	default:
		s.forward(w, r, func(h http.Header, status int) { s.describe(h, r.URL.Path, status) })
	}
}

// forward hands a request on to azurite as it is, its signature included, and lets the headers of the answer be changed.
func (s *AzureLockServer) forward(w http.ResponseWriter, r *http.Request, change func(h http.Header, status int)) {
	ask := r.Clone(r.Context())
	ask.URL.Scheme, ask.URL.Host, ask.RequestURI = "http", s.azurite, ""
	answer, err := s.wire.RoundTrip(ask)
	if err != nil {
		refuseAzure(w, http.StatusInternalServerError, "InternalError")
		return
	}
	defer answer.Body.Close()
	maps.Copy(w.Header(), answer.Header)
	if change != nil {
		change(w.Header(), answer.StatusCode)
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

func refuseAzure(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>said so</Message></Error>`, code)
}

// current gives the current version of a blob; nil: none. The lock is held.
func (s *AzureLockServer) current(path string) *AzureVersion {
	if all := s.versions[path]; len(all) > 0 && all[len(all)-1].Current {
		return all[len(all)-1]
	}
	return nil
}

// describe adds what is known of the current version; modes are answered in lower case.
func (s *AzureLockServer) describe(h http.Header, path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.current(path)
	if v == nil || status >= 300 {
		return
	}
	h.Set(azureVersion, v.ID)
	h.Set("X-Ms-Is-Current-Version", "true")
	if !v.Until.IsZero() {
		h.Set(azureUntil, v.Until.UTC().Format(http.TimeFormat))
		h.Set(azureMode, map[bool]string{false: "unlocked", true: "locked"}[v.Locked])
	}
}

// asked reads the policy of a request; the service knows no other modes, and no date that has passed.
func asked(h http.Header) (v AzureVersion, ok bool) {
	until, err := time.Parse(time.RFC1123, h.Get(azureUntil))
	mode := strings.ToLower(h.Get(azureMode))
	return AzureVersion{Until: until, Locked: mode == "locked"}, err == nil && until.After(time.Now()) && (mode == "locked" || mode == "unlocked" || mode == "")
}

func (s *AzureLockServer) putBlob(w http.ResponseWriter, r *http.Request) {
	var policy AzureVersion
	if r.Header.Get(azureUntil) != "" {
		var ok bool
		if policy, ok = asked(r.Header); !ok {
			refuseAzure(w, http.StatusBadRequest, "InvalidHeaderValue")
			return
		}
	}
	s.forward(w, r, func(h http.Header, status int) {
		if status != http.StatusCreated {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if before := s.current(r.URL.Path); before != nil {
			before.Current = false
		}
		policy.ID, policy.Current = time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z"), true
		s.versions[r.URL.Path] = append(s.versions[r.URL.Path], &policy)
		h.Set(azureVersion, policy.ID)
	})
}

func (s *AzureLockServer) setPolicy(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.current(r.URL.Path)
	if v == nil {
		refuseAzure(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	if r.Method == http.MethodDelete {
		if v.Locked {
			refuseAzure(w, http.StatusConflict, "ImmutabilityPolicyDeleteOnLockedPolicy")
			return
		}
		v.Until = time.Time{}
		return
	}
	policy, ok := asked(r.Header)
	switch {
	case !ok:
		refuseAzure(w, http.StatusBadRequest, "InvalidHeaderValue")
	case v.Locked && (!policy.Locked || policy.Until.Before(v.Until)):
		refuseAzure(w, http.StatusConflict, "BlobImmutableDueToPolicy")
	default:
		v.Until, v.Locked = policy.Until, policy.Locked
		w.Header().Set(azureUntil, v.Until.UTC().Format(http.TimeFormat))
		w.Header().Set(azureMode, strings.ToLower(r.Header.Get(azureMode)))
	}
}

// deleteBlob turns the current version into an earlier one, unless it is kept.
func (s *AzureLockServer) deleteBlob(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	v := s.current(r.URL.Path)
	kept := v != nil && v.active()
	s.mu.Unlock()
	if kept {
		refuseAzure(w, http.StatusConflict, "BlobImmutableDueToPolicy")
		return
	}
	s.forward(w, r, func(_ http.Header, status int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if v != nil && status == http.StatusAccepted {
			v.Current = false
		}
	})
}

func (s *AzureLockServer) deleteVersion(w http.ResponseWriter, path, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := slices.IndexFunc(s.versions[path], func(v *AzureVersion) bool { return v.ID == id })
	switch {
	case n < 0:
		refuseAzure(w, http.StatusNotFound, "BlobNotFound")
	case s.versions[path][n].Current:
		refuseAzure(w, http.StatusForbidden, "OperationNotAllowedOnRootBlob")
	case s.versions[path][n].active():
		refuseAzure(w, http.StatusConflict, "BlobImmutableDueToPolicy")
	default:
		s.versions[path] = slices.Delete(s.versions[path], n, n+1)
		w.WriteHeader(http.StatusAccepted)
	}
}
