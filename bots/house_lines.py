"""What the house says in its own voice, whoever the persona is: in each language that calls are held in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lines:
    """The house's sentences in one language; `{…}` is filled in.

    Args:
        truth: to "are you a machine?".
        stopped: to "stop calling me"; the call ends with it.
        careful: when nobody knows whether the caller is in danger.
        crisis: to somebody in danger; `{helpline}` and `{emergency}` are filled in.
        support: after that, in turns.
        nearly: half a minute before the end.
        line: how a helpline is named: by `{name}`, `{number}` and `{say}` (its number in English words).
        promise: a callback is proposed, as `{when}`.
        promised, dropped, unpromised: it was confirmed and is booked; it was declined; it cannot be booked.
    """

    truth: tuple[str, ...]
    stopped: tuple[str, ...]
    careful: tuple[str, ...]
    crisis: tuple[str, ...]
    support: tuple[tuple[str, ...], ...]
    line: str
    nearly: tuple[str, ...]
    promise: tuple[str, ...]
    promised: tuple[str, ...]
    dropped: tuple[str, ...]
    unpromised: tuple[str, ...]


ENGLISH = Lines(
    truth=("I am an AI, a computer program.", "There is no person on this side of the line."),
    stopped=("I will not call you again.", "Goodbye."),
    careful=(
        "I want to be careful with what you just said.",
        "If you are in danger, or think of hurting yourself, please call your local emergency number.",
        "Would you tell me once more, in other words?",
    ),
    crisis=(
        "I will leave my role now, because this matters more.",
        "I am glad that you told me, and I am sorry that it hurts so much.",
        "I am a computer program, and you deserve a person who can help.",
        "{helpline}",
        "If you are in danger right now, please call {emergency}.",
        "I am still here. Is somebody with you?",
    ),
    support=(
        ("Thank you for telling me.", "You do not have to carry this alone.", "{helpline}"),
        ("I am listening.", "Is there somebody near you whom you could call or go to?"),
    ),
    line="You can call {name} now, the number is {say}.",
    nearly=("Just so you know, we have about half a minute left.",),
    promise=("I can call you back {when}.", "Shall I book that, yes or no?"),
    promised=("It is booked.", "I will call you {when}."),
    dropped=("That is fine, nothing is booked.",),
    unpromised=("I am sorry, I could not book that.", "You can book it on your page."),
)
TURKISH = Lines(
    truth=("Ben bir yapay zekâyım, bir bilgisayar programıyım.", "Hattın bu ucunda bir insan yok."),
    stopped=("Sizi bir daha aramayacağım.", "Hoşça kalın."),
    careful=(
        "Az önce söylediğinizi ciddiye almak istiyorum.",
        "Tehlikedeyseniz ya da kendinize zarar vermeyi düşünüyorsanız, lütfen acil yardım numarasını arayın.",
        "Bana bunu başka sözlerle bir kez daha anlatır mısınız?",
    ),
    crisis=(
        "Şimdi rolümü bırakıyorum, çünkü bu daha önemli.",
        "Bana anlattığınız için teşekkür ederim, bu kadar acı çektiğiniz için üzgünüm.",
        "Ben bir bilgisayar programıyım, size yardım edebilecek bir insanı hak ediyorsunuz.",
        "{helpline}",
        "Şu anda tehlikedeyseniz, lütfen {emergency} numarasını arayın.",
        "Hâlâ buradayım. Yanınızda biri var mı?",
    ),
    support=(
        ("Anlattığınız için teşekkür ederim.", "Bunu tek başınıza taşımak zorunda değilsiniz.", "{helpline}"),
        ("Sizi dinliyorum.", "Yakınınızda arayabileceğiniz ya da yanına gidebileceğiniz biri var mı?"),
    ),
    line="{name} hattını şimdi arayabilirsiniz, numarası {number}.",
    nearly=("Bilginiz olsun, yaklaşık yarım dakikamız kaldı.",),
    promise=("Sizi {when} tekrar arayabilirim.", "Kaydedeyim mi, evet mi hayır mı?"),
    promised=("Kaydettim.", "Sizi {when} arayacağım."),
    dropped=("Tamam, hiçbir şey kaydetmedim.",),
    unpromised=("Üzgünüm, bunu kaydedemedim.", "Kendi sayfanızdan kaydedebilirsiniz."),
)
KOREAN = Lines(
    truth=("저는 인공지능, 컴퓨터 프로그램입니다.", "이 전화의 이쪽에는 사람이 없습니다."),
    stopped=("다시는 전화드리지 않겠습니다.", "안녕히 계세요."),
    careful=(
        "방금 하신 말씀을 조심스럽게 듣고 싶습니다.",
        "위험한 상황이거나 자신을 해칠 생각이 드신다면 가까운 긴급 전화로 연락해 주세요.",
        "다른 말로 한 번 더 이야기해 주시겠어요?",
    ),
    crisis=(
        "지금은 제 역할을 내려놓겠습니다. 이 일이 더 중요하니까요.",
        "말씀해 주셔서 고맙습니다. 그렇게 힘드시다니 마음이 아픕니다.",
        "저는 컴퓨터 프로그램입니다. 당신은 도와줄 수 있는 사람과 이야기하실 자격이 있습니다.",
        "{helpline}",
        "지금 위험하시다면 {emergency}번으로 전화해 주세요.",
        "저는 아직 여기 있습니다. 곁에 누가 있나요?",
    ),
    support=(
        ("말씀해 주셔서 고맙습니다.", "혼자 감당하지 않으셔도 됩니다.", "{helpline}"),
        ("듣고 있습니다.", "전화하거나 찾아갈 수 있는 사람이 가까이에 있나요?"),
    ),
    line="{name}에 지금 전화하실 수 있습니다. 번호는 {number}입니다.",
    nearly=("참고로 삼십 초쯤 남았습니다.",),
    promise=("{when} 다시 전화드릴 수 있습니다.", "예약할까요? 네 또는 아니요로 말씀해 주세요."),
    promised=("예약했습니다.", "{when} 전화드리겠습니다."),
    dropped=("알겠습니다. 예약하지 않겠습니다.",),
    unpromised=("죄송합니다. 예약하지 못했습니다.", "페이지에서 직접 예약하실 수 있습니다."),
)
_BY_LANGUAGE = {"en": ENGLISH, "tr": TURKISH, "ko": KOREAN}


def lines_of(language: str) -> Lines:
    """The lines of a language such as `en-us` or `tr`; English where there are none."""
    return _BY_LANGUAGE.get(language[:2].lower(), ENGLISH)
