"""The table of the rule ``boilerplate``: what the machinery of web pages says, in large languages.

All of it is lower case, and without punctuation at the ends. A language that is missing here only loses less.
"""

from __future__ import annotations

import functools

# Whole lines: links and buttons that no text consists of.
_LINES = """
en: log in | login | log out | sign in | sign up | sign up for free | register | create account
en: create an account | forgot password | forgot your password | remember me | my account | subscribe
en: subscribe now | unsubscribe | subscribe to our newsletter | sign up for our newsletter | add to cart
en: add to basket | add to wishlist | buy now | skip to content | skip to main content | skip to navigation
en: jump to navigation | toggle navigation | main menu | back to top | scroll to top | go to top | read more
en: continue reading | learn more | show more | load more | see more | view more | view all
en: see all | click here | print this page | send to a friend | leave a reply | leave a comment | post a comment
en: post comment | add a comment | cancel reply | no comments | no comments yet | comments are closed | share
en: share this | share this post | share this article | share on | share on facebook | share on twitter
en: share on linkedin | share on whatsapp | share via email | tweet | pin it | like this | follow us
en: follow us on | follow us on facebook | follow us on twitter | related posts | related articles
en: you may also like | about us | contact us | privacy policy | terms of use | terms of service
en: terms and conditions | terms & conditions | cookie policy | cookie settings | cookies policy
en: accept cookies | accept all cookies | accept all | reject all | all rights reserved | advertisement
en: sponsored content | powered by wordpress | proudly powered by wordpress | next post | previous post
en: next page | previous page | site map | sitemap
es: iniciar sesión | inicia sesión | cerrar sesión | regístrate | registrarse | crear cuenta | crear una cuenta
es: olvidaste tu contraseña | olvidé mi contraseña | mi cuenta | suscríbete | suscribirse | añadir al carrito
es: agregar al carrito | saltar al contenido | ir al contenido | volver arriba | leer más | seguir leyendo
es: ver más | ver todo | ver todos | dejar un comentario | deja un comentario | deja una respuesta
es: sin comentarios | compartir | compartir en facebook | compartir en twitter | síguenos | síguenos en
es: artículos relacionados | sobre nosotros | contáctanos | política de privacidad | política de cookies
es: aviso legal | términos y condiciones | condiciones de uso | aceptar cookies | aceptar todas
es: todos los derechos reservados | publicidad | mapa del sitio
fr: se connecter | connexion | déconnexion | s'inscrire | inscription | créer un compte | mot de passe oublié
fr: mon compte | s'abonner | abonnez-vous | ajouter au panier | aller au contenu
fr: passer au contenu | haut de page | retour en haut | lire la suite | lire plus | en savoir plus | voir plus
fr: voir tout | laisser un commentaire | ajouter un commentaire | aucun commentaire | partager
fr: partager sur facebook | partager sur twitter | suivez-nous | suivez-nous sur | articles similaires
fr: à propos de nous | contactez-nous | nous contacter | politique de confidentialité | mentions légales
fr: conditions d'utilisation | plan du site | conditions générales | accepter les cookies | tout accepter
fr: tout refuser | tous droits réservés | publicité
de: anmelden | einloggen | abmelden | registrieren | konto erstellen | passwort vergessen | mein konto
de: newsletter | newsletter abonnieren | jetzt abonnieren | in den warenkorb | zum inhalt springen
de: zum hauptinhalt springen | nach oben | zum seitenanfang | weiterlesen | mehr lesen | mehr erfahren
de: mehr anzeigen | alle anzeigen | kommentar schreiben | kommentar hinterlassen | schreibe einen kommentar
de: keine kommentare | teilen | auf facebook teilen | auf twitter teilen | folge uns | folgen sie uns
de: ähnliche beiträge | über uns | kontaktieren sie uns | datenschutz | datenschutzerklärung | impressum
de: nutzungsbedingungen | allgemeine geschäftsbedingungen | agb | alle akzeptieren | cookies akzeptieren
de: alle cookies akzeptieren | alle rechte vorbehalten | anzeige | werbung | seite drucken
pt: entrar | iniciar sessão | fazer login | cadastre-se | criar conta | criar uma conta | esqueci minha senha
pt: esqueceu a senha | minha conta | inscreva-se | assine já | adicionar ao carrinho | pular para o conteúdo
pt: ir para o conteúdo | voltar ao topo | leia mais | ler mais | continue lendo | saiba mais | ver mais
pt: ver tudo | deixe um comentário | deixe uma resposta | nenhum comentário | compartilhar | partilhar
pt: compartilhar no facebook | siga-nos | artigos relacionados | posts relacionados | sobre nós | fale conosco
pt: contate-nos | política de privacidade | política de cookies | termos de uso | termos e condições
pt: aceitar cookies | aceitar todos | todos os direitos reservados | publicidade | mapa do site
it: accedi | registrati | crea un account | password dimenticata | hai dimenticato la password | il mio account
it: iscriviti | iscriviti alla newsletter | aggiungi al carrello | vai al contenuto | salta al contenuto
it: torna su | torna all'inizio | leggi tutto | leggi di più | continua a leggere | scopri di più | mostra altro
it: vedi tutti | lascia un commento | nessun commento | condividi | condividi su facebook | condividi su twitter
it: seguici | seguici su | articoli correlati | chi siamo | contattaci | informativa sulla privacy
it: privacy policy | note legali | termini e condizioni | accetta tutti | accetta i cookie
it: tutti i diritti riservati | pubblicità | mappa del sito
nl: inloggen | aanmelden | registreren | account aanmaken | wachtwoord vergeten | mijn account | in winkelwagen
nl: ga naar de inhoud | naar boven | lees meer | lees verder | meer informatie | toon meer | geef een reactie
nl: laat een reactie achter | geen reacties | delen | deel op facebook | delen op facebook | volg ons | over ons
nl: neem contact op | privacybeleid | privacyverklaring | cookiebeleid | algemene voorwaarden
nl: alle rechten voorbehouden
sv: logga in | logga ut | skapa konto | glömt lösenord | mitt konto | läs mer | visa mer | hoppa till innehåll
sv: lämna en kommentar | inga kommentarer | dela | dela på facebook | följ oss | om oss | kontakta oss
sv: integritetspolicy
da: log ind | opret konto | glemt adgangskode | min konto | læs mere | vis mere | del på facebook | følg os
da: om os | kontakt os | privatlivspolitik | alle rettigheder forbeholdes
no: logg inn | opprett konto | glemt passord | les mer | vis mer | del på facebook | følg oss | kontakt oss
no: personvern
fi: kirjaudu sisään | kirjaudu | rekisteröidy | unohditko salasanasi | lue lisää | näytä lisää
fi: jaa facebookissa | seuraa meitä | tietoa meistä | ota yhteyttä | tietosuojaseloste
fi: kaikki oikeudet pidätetään
pl: zaloguj się | zaloguj | zarejestruj się | wyloguj | utwórz konto | zapomniałeś hasła | moje konto
pl: dodaj do koszyka | przejdź do treści | do góry | czytaj więcej | czytaj dalej | pokaż więcej | zobacz więcej
pl: dodaj komentarz | brak komentarzy | udostępnij | udostępnij na facebooku | o nas | skontaktuj się z nami
pl: polityka prywatności | polityka cookies | regulamin | wszelkie prawa zastrzeżone
pl: wszystkie prawa zastrzeżone | reklama | mapa strony
cs: přihlásit se | přihlásit | registrovat se | zapomenuté heslo | můj účet | přidat do košíku | číst dále
cs: více informací | přejít k obsahu | přidat komentář | sdílet | sdílet na facebooku | o nás | kontaktujte nás
cs: ochrana osobních údajů | všechna práva vyhrazena | obchodní podmínky
ro: autentificare | conectare | înregistrare | creează cont | ai uitat parola | contul meu | adaugă în coș
ro: citește mai mult | mergi la conținut | lasă un comentariu | distribuie | distribuie pe facebook | despre noi
ro: contactează-ne | politica de confidențialitate | termeni și condiții | toate drepturile rezervate
hu: bejelentkezés | regisztráció | elfelejtett jelszó | kosárba | tovább olvasom | tovább | megosztás | rólunk
hu: adatvédelmi irányelvek | adatvédelmi tájékoztató | minden jog fenntartva
el: σύνδεση | εγγραφή | ξεχάσατε τον κωδικό σας | διαβάστε περισσότερα | περισσότερα | κοινοποίηση
el: σχετικά με εμάς | επικοινωνία | επικοινωνήστε μαζί μας | πολιτική απορρήτου | όροι χρήσης
el: με επιφύλαξη παντός δικαιώματος
tr: giriş yap | üye ol | kayıt ol | şifremi unuttum | hesabım | sepete ekle | içeriğe geç | yukarı çık
tr: devamını oku | daha fazla | yorum yap | yorum yok | paylaş | facebook'ta paylaş | bizi takip edin
tr: hakkımızda | bize ulaşın | gizlilik politikası | kullanım koşulları | çerez politikası
tr: tüm hakları saklıdır | her hakkı saklıdır
id: masuk | daftar | daftar sekarang | lupa password | lupa kata sandi | akun saya | tambahkan ke keranjang
id: baca selengkapnya | selengkapnya | lihat semua | tinggalkan komentar | tinggalkan balasan | bagikan
id: bagikan di facebook | ikuti kami | tentang kami | hubungi kami | kebijakan privasi | syarat dan ketentuan
vi: đăng nhập | đăng ký | quên mật khẩu | tài khoản của tôi | thêm vào giỏ hàng | xem thêm | đọc thêm | đọc tiếp
vi: chia sẻ | chia sẻ lên facebook | để lại bình luận | theo dõi chúng tôi | về chúng tôi
vi: liên hệ với chúng tôi | chính sách bảo mật | điều khoản sử dụng | bản quyền thuộc về
ru: войти | вход | выйти | регистрация | зарегистрироваться | забыли пароль | восстановить пароль
ru: личный кабинет | подписаться | добавить в корзину | в корзину | перейти к содержимому | перейти к содержанию
ru: наверх | читать далее | читать полностью | подробнее | показать ещё | показать еще | смотреть все
ru: оставить комментарий | добавить комментарий | комментариев нет | нет комментариев | поделиться
ru: поделиться в facebook | поделиться ссылкой | о нас | о сайте | обратная связь | свяжитесь с нами
ru: политика конфиденциальности | пользовательское соглашение | карта сайта | все права защищены | реклама
ru: версия для печати | распечатать
uk: увійти | вхід | вийти | реєстрація | зареєструватися | забули пароль | підписатися | читати далі
uk: детальніше | залишити коментар | додати коментар | поділитися | про нас | політика конфіденційності
uk: усі права захищено | всі права захищені | карта сайту
bg: вход | регистрация | забравена парола | прочети повече | сподели | за нас | общи условия
bg: всички права запазени
sr: пријави се | пријавите се | региструј се | прочитај више | подели | о нама | сва права задржана | prijavi se
sr: prijavite se | registrujte se | pročitaj više | podeli | o nama | sva prava zadržana | sva prava pridržana
ar: تسجيل الدخول | تسجيل دخول | تسجيل الخروج | إنشاء حساب | نسيت كلمة المرور | هل نسيت كلمة المرور | حسابي
ar: اشترك الآن | أضف إلى السلة | اقرأ المزيد | إقرأ المزيد | المزيد | عرض الكل | أضف تعليق | اترك تعليقا
ar: لا توجد تعليقات | مشاركة | شارك | شارك على فيسبوك | تابعنا | تابعنا على | من نحن | اتصل بنا | سياسة الخصوصية
ar: شروط الاستخدام | جميع الحقوق محفوظة | حقوق النشر محفوظة | خريطة الموقع
fa: ورود | ثبت نام | ثبت‌نام | ورود و ثبت نام | فراموشی رمز عبور | افزودن به سبد خرید | ادامه مطلب
fa: بیشتر بخوانید | ارسال دیدگاه | ارسال نظر | بدون دیدگاه | اشتراک گذاری | اشتراک‌گذاری | درباره ما
fa: تماس با ما | حریم خصوصی | قوانین و مقررات | تمامی حقوق محفوظ است | کلیه حقوق محفوظ است
he: התחברות | הרשמה | שכחתי סיסמה | קרא עוד | קראו עוד | שתף | שתפו | אודות | צור קשר | מדיניות פרטיות
he: תנאי שימוש | כל הזכויות שמורות
ur: لاگ ان | رجسٹر | مزید پڑھیں | شیئر کریں | ہمارے بارے میں | ہم سے رابطہ | رازداری کی پالیسی
ur: جملہ حقوق محفوظ ہیں
hi: लॉग इन | लॉग इन करें | लॉगिन | साइन अप | साइन इन | रजिस्टर करें | पासवर्ड भूल गए | और पढ़ें | आगे पढ़ें
hi: शेयर करें | साझा करें | हमारे बारे में | संपर्क करें | गोपनीयता नीति | नियम और शर्तें | सर्वाधिकार सुरक्षित
hi: विज्ञापन
bn: লগ ইন | লগইন | নিবন্ধন | পাসওয়ার্ড ভুলে গেছেন | আরও পড়ুন | আরো পড়ুন | শেয়ার করুন | আমাদের সম্পর্কে
bn: যোগাযোগ করুন | গোপনীয়তা নীতি | সর্বস্বত্ব সংরক্ষিত | বিজ্ঞাপন
th: เข้าสู่ระบบ | สมัครสมาชิก | ลงทะเบียน | ลืมรหัสผ่าน | หยิบใส่ตะกร้า | อ่านต่อ | อ่านเพิ่มเติม | ดูเพิ่มเติม
th: ดูทั้งหมด | แสดงความคิดเห็น | แชร์ | เกี่ยวกับเรา | ติดต่อเรา | นโยบายความเป็นส่วนตัว | ข้อกำหนดและเงื่อนไข
th: สงวนลิขสิทธิ์
zh: 登录 | 登陆 | 登入 | 注册 | 註冊 | 登录注册 | 退出登录 | 忘记密码 | 忘記密碼 | 我的账户 | 加入购物车
zh: 加入購物車 | 立即购买 | 跳到主要内容 | 跳至内容 | 返回顶部 | 回到顶部 | 返回首页 | 阅读更多 | 閱讀更多
zh: 閱讀全文 | 阅读全文 | 查看更多 | 了解更多 | 加载更多 | 查看全部 | 发表评论 | 發表評論 | 發表留言 | 暂无评论
zh: 分享 | 分享到 | 分享至 | 关注我们 | 關注我們 | 关于我们 | 關於我們 | 联系我们 | 聯絡我們 | 隐私政策
zh: 隱私政策 | 使用条款 | 服务条款 | 免责声明 | 网站地图 | 網站地圖 | 版权所有 | 版權所有 | 保留所有权利
zh: 版权声明 | 上一篇 | 下一篇 | 上一页 | 下一页 | 广告
ja: ログイン | ログアウト | 新規登録 | 会員登録 | 無料会員登録 | パスワードを忘れた方 | パスワードをお忘れですか
ja: マイページ | カートに入れる | ページトップへ | トップへ戻る | ページの先頭へ | 続きを読む | もっと見る
ja: もっと読む | 詳細を見る | 一覧を見る | コメントを残す | コメントする | シェア | シェアする | ツイート
ja: フォローする | 運営会社 | お問い合わせ | お問い合わせはこちら | プライバシーポリシー | 個人情報保護方針
ja: 利用規約 | サイトマップ | 無断転載禁止 | 無断転載を禁じます | コンテンツへスキップ
ko: 로그인 | 로그아웃 | 회원가입 | 비밀번호 찾기 | 아이디 찾기 | 마이페이지 | 장바구니 | 장바구니에 담기
ko: 더보기 | 더 보기 | 자세히 보기 | 전체보기 | 본문 바로가기 | 댓글 쓰기 | 댓글 남기기 | 공유하기
ko: 페이스북 공유 | 회사소개 | 문의하기 | 개인정보처리방침 | 개인정보 처리방침 | 이용약관 | 사이트맵
ko: 무단 전재 및 재배포 금지
"""

_SOCIAL_WORDS = """
    facebook twitter instagram whatsapp linkedin pinterest telegram reddit tumblr youtube tiktok snapchat messenger
    vkontakte vk viber weibo flickr google+ x threads mastodon bluesky odnoklassniki digg stumbleupon email e-mail mail
    print share tweet pin like follow on via the this rss copy link teilen compartir partager condividi compartilhar
    partilhar delen paylaş bagikan поделиться udostępnij dela jaa
    微博 微信 qq 分享
"""
#: Names of networks and what one does there: lines of nothing but these are buttons.
SOCIAL_WORDS = frozenset(_SOCIAL_WORDS.split())
_NETWORKS = """
    facebook twitter instagram whatsapp linkedin pinterest telegram reddit tumblr youtube tiktok snapchat vkontakte
    viber weibo flickr google+ mastodon odnoklassniki digg stumbleupon 微博
"""
#: Those of them without which a line is none.
NETWORKS = frozenset(_NETWORKS.split())

_COOKIE_WORDS = """
    website websites site browser browsing privacy policy policies consent third-party analytics
    web sitio sitios navegador navegación privacidad política consentimiento
    navigateur navigation confidentialité politique consentement
    webseite webseiten website browser datenschutz datenschutzerklärung einstellungen zustimmung
    navegação privacidade consentimento sítio
    sito navigazione informativa consenso
    webbplats webbplatsen hjemmeside hjemmesiden nettsted nettstedet sivusto sivustolla verkkosivusto
    strona stronie strony witryna witrynie serwis serwisie przeglądarki prywatności
    stránky stránek prohlížeč webu weboldal honlap böngésző site-ul
    сайт сайта сайте браузер браузера конфиденциальности сайту вебсайт
    ιστότοπος ιστοσελίδα ιστότοπο situs peramban privasi sitesi sitemiz tarayıcı gizlilik sitemizde trang trình
"""
#: A notice about cookies names them and one of these.
COOKIES = ("cookie", "куки", "クッキー", "쿠키", "คุกกี้", "कुकी", "ملفات تعريف الارتباط", "کوکی", "עוגיות", "çerez")
COOKIE_WORDS = frozenset(_COOKIE_WORDS.split())
#: The same in scripts without spaces between words, and where words take endings.
COOKIE_STEMS = (
    "网站", "網站", "本站", "浏览器", "隐私", "サイト", "ブラウザ", "사이트", "เว็บไซต์", "वेबसाइट", "موقع", "سایت", "אתר",
)  # fmt: skip

#: A notice about JavaScript names it and one of these stems.
JAVASCRIPT_STEMS = (
    "enable", "disabled", "turn on", "turned on", "activat", "aktivier", "activer", "activé", "désactiv", "activar",
    "habilit", "ative", "attiva", "abilit", "inschakel", "aktiver", "włącz", "povol", "engedélyez", "ενεργοποι",
    "etkinleştir", "aktifkan", "kích hoạt", "включ", "отключ", "увімкн", "вимкн", "تفعيل", "تمكين", "فعال", "सक्षम",
    "เปิดใช้", "启用", "開啟", "啟用", "禁用", "有効", "無効", "활성화", "사용하도록", "requires javascript",
    "without javascript", "your browser",
)  # fmt: skip

#: Stand near the year in lines that say who owns the page.
RIGHTS = (
    "all rights reserved", "todos los derechos reservados", "tous droits réservés", "alle rechte vorbehalten",
    "todos os direitos reservados", "tutti i diritti riservati", "alle rechten voorbehouden", "prawa zastrzeżone",
    "všechna práva vyhrazena", "minden jog fenntartva", "toate drepturile rezervate", "все права защищены",
    "всі права захищені", "усі права захищено", "všetky práva vyhradené", "tüm hakları saklıdır", "her hakkı saklıdır",
    "sva prava zadržana", "sva prava pridržana", "alle rettigheder forbeholdes", "kaikki oikeudet pidätetään",
    "جميع الحقوق محفوظة", "کلیه حقوق", "כל הזכויות שמורות", "सर्वाधिकार सुरक्षित", "hak cipta dilindungi",
    "版权所有", "版權所有", "無断転載", "무단 전재", "สงวนลิขสิทธิ์",
)  # fmt: skip


@functools.cache
def boilerplate_lines() -> frozenset[str]:
    """Return the lines that are links and buttons whatever stands around them."""
    rows = (row.partition(": ")[2] for row in _LINES.strip().splitlines())
    return frozenset(phrase.strip() for row in rows for phrase in row.split(" | "))
