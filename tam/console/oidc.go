package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/identity"
)

// CallbackPath is where an identity provider sends people back to.
const CallbackPath = Prefix + "login/callback"

const (
	// providerSession is how long somebody stays logged in whose roles may change at the provider.
	providerSession = time.Hour
	// loginLifetime is how long a login at the provider may take.
	loginLifetime = 10 * time.Minute
	// loginSuffix is the end of no tenant's name: what the tenants a and a-login keep in a browser is apart.
	loginSuffix = "_login"
)

// attempt is a login under way, in a cookie of its own.
type attempt struct {
	identity.Login
	Expires time.Time `json:"expires"`
}

// beginLogin sends the browser to the provider.
func (s *console) beginLogin(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	to, err := s.loginAttempt(v)
	if err != nil {
		s.fail(v, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *console) loginAttempt(v *visit) (to string, err error) {
	name, secure, err := s.cookieName(v.r)
	if err != nil {
		return "", err
	}
	a := attempt{Expires: s.Clock().Add(loginLifetime)}
	for _, field := range []*string{&a.State, &a.Nonce, &a.Verifier} {
		if *field, err = s.random(); err != nil {
			return "", err
		}
	}
	if to, err = s.Provider.BeginLogin(a.Login); err != nil {
		return "", err
	}
	value, err := s.seal(v.r.Context(), name+loginSuffix, a)
	if err != nil {
		return "", err
	}
	http.SetCookie(v.w, &http.Cookie{
		// Lax: it has to come along when the provider sends the browser back.
		Name: name + loginSuffix, Value: value, Path: "/", MaxAge: int(loginLifetime.Seconds()),
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
	return to, nil
}

// finishLogin takes the provider's answer.
func (s *console) finishLogin(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	if err := s.takeAnswer(v); err != nil {
		s.fail(v, err)
		return
	}
	// The session's cookie is not sent with a request that another site led to, and this is one: the next
	// request has to begin here.
	w.Header().Set("Refresh", "0; url="+Prefix)
	s.render(v, http.StatusOK, "welcome", "Logged in", nil)
}

func (s *console) takeAnswer(v *visit) error {
	name, secure, err := s.cookieName(v.r)
	if err != nil {
		return err
	}
	var a attempt
	cookie, err := v.r.Cookie(name + loginSuffix)
	if err == nil {
		err = s.open(v.r.Context(), name+loginSuffix, cookie.Value, &a)
	}
	// An attempt counts once.
	http.SetCookie(v.w, &http.Cookie{Name: name + loginSuffix, Path: "/", MaxAge: -1, HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode})
	switch {
	case errors.Is(err, http.ErrNoCookie), errors.Is(err, errNoSession), err == nil && !s.Clock().Before(a.Expires):
		return &api.Problem{Status: http.StatusBadRequest, Code: "login-state", Detail: "This login was not begun in this browser, or took too long.",
			Next: "Begin again at the console's login page."}
	case err != nil:
		return err
	}
	caller, err := s.Provider.FinishLogin(v.r.Context(), a.Login, v.r.URL.Query())
	if err != nil {
		return err
	}
	caller.Expires = s.Clock().Add(providerSession)
	return s.startSession(v, name, secure, caller, session{Caller: caller, Expires: caller.Expires})
}
