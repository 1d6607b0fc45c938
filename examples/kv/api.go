package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/seed-83836a96/memberlist"
)

// api serves the store over HTTP.
type api struct {
	replica *replica
	list    *memberlist.Memberlist
}

func newAPI(replica *replica, list *memberlist.Memberlist) http.Handler {
	a := api{replica: replica, list: list}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /kv", a.listAll)
	mux.HandleFunc("GET /kv/{key}", a.get)
	mux.HandleFunc("PUT /kv/{key}", a.put)
	mux.HandleFunc("DELETE /kv/{key}", a.remove)
	mux.HandleFunc("GET /members", a.members)
	return mux
}

// listAll answers with an object of all keys and values.
func (a api) listAll(w http.ResponseWriter, _ *http.Request) {
	values := map[string]json.RawMessage{}
	for _, e := range a.replica.store.all() {
		if !e.Deleted {
			values[e.Key] = e.Value
		}
	}
	answer(w, http.StatusOK, values)
}

func (a api) get(w http.ResponseWriter, r *http.Request) {
	e, found := a.replica.store.get(r.PathValue("key"))
	if !found {
		refuse(w, http.StatusNotFound, errors.New("no such key"))
		return
	}
	answer(w, http.StatusOK, e)
}

// put takes any JSON value as the body.
func (a api) put(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestMessage))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, errTooLarge)
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, err)
		return
	case !json.Valid(body):
		refuse(w, http.StatusBadRequest, errors.New("the body is not JSON"))
		return
	}
	e, err := a.replica.put(r.PathValue("key"), body)
	a.changed(w, e, err)
}

// remove deletes a key. To delete one that is not there is no error: it may have
// been set elsewhere a moment ago.
func (a api) remove(w http.ResponseWriter, r *http.Request) {
	e, err := a.replica.remove(r.PathValue("key"))
	a.changed(w, e, err)
}

func (a api) changed(w http.ResponseWriter, e entry, err error) {
	switch {
	case errors.Is(err, errTooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, err)
	case err != nil:
		refuse(w, http.StatusInternalServerError, err)
	default:
		answer(w, http.StatusOK, e)
	}
}

type member struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

func (a api) members(w http.ResponseWriter, _ *http.Request) {
	members := []member{}
	for _, node := range a.list.Members() {
		members = append(members, member{Name: node.Name, Address: node.Address()})
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.Name, b.Name) })
	answer(w, http.StatusOK, members)
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error means that the client is gone.
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]string{"error": err.Error()})
}
