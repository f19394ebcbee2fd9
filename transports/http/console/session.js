// Who is signed in. The tokens themselves are cookies that no script can read.

export const session = {
  me: null, // the user, null when nobody is signed in
  expires: 0, // when the access token runs out, if we know
};

/** Take in what the server answered to a sign-in, a sign-up or a refresh. */
export function began(answer) {
  session.me = answer.user ?? session.me;
  session.expires = Date.now() + (answer.expires_in ?? 900) * 1000;
}

/** Nobody is signed in any more. */
export function ended() {
  session.me = null;
  session.expires = 0;
}
